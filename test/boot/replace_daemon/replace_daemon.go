// Scenario replace_daemon: new binaries for a running daemon, under a load of
// calls: a good one takes over, one that crashes and one that never gets ready are
// put back by themselves, every other daemon keeps its process, and no call is
// lost. If it fails, developing on a running machine is not to be trusted.
package replace_daemon

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/test/vm"
)

const name = "networkd"

// Scenario leaves the daemons of the image running.
func Scenario(t *testing.T, r *vm.Running) {
	t.Run("new binaries", func(t *testing.T) { newBinaries(t, r.For(t)) })
	t.Run("restart every daemon", func(t *testing.T) { restartEach(t, r.For(t)) })
}

func newBinaries(t *testing.T, r *vm.Running) {
	ctx := vm.Context(t)
	before := daemons(r)

	load, stop := context.WithCancel(ctx)
	var served atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for load.Err() == nil {
				if _, err := network.NewClient(r.Admin).ListLinks(ctx, &network.ListLinksRequest{}); err != nil {
					t.Errorf("a call was lost: %v", err)
					return
				}
				served.Add(1)
			}
		})
	}

	good := append(r.Binary(name), "a different binary, for its digest"...)
	if _, err := r.Replace(ctx, name, good); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	if d := daemons(r)[name]; !d.Replaced || d.Pid == before[name].Pid {
		t.Errorf("after the good one: %v; want a replaced daemon with a new process", d)
	}

	for which, want := range map[string]codes.Code{"crasher": codes.Aborted, "sleeper": codes.DeadlineExceeded} {
		running := daemons(r)[name].Pid
		_, err := r.Replace(ctx, name, build(t, which))
		if status.Code(err) != want || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v; want %v and a sentence that names %s", which, err, want, name)
		}
		if d := daemons(r)[name]; d.Pid != running {
			t.Errorf("%s: process %d runs; want the one from before, %d", which, d.Pid, running)
		}
	}

	if _, err := r.Replace(ctx, name, []byte("#!/bin/sh\n")); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a script: %v; want InvalidArgument", err)
	}
	if _, err := dev.NewClient(r.Admin).RestoreDaemon(ctx, &dev.RestoreDaemonRequest{Name: name}); err != nil {
		t.Errorf("restore: %v", err)
	}
	stop()
	wg.Wait()
	t.Logf("%d calls served meanwhile", served.Load())

	for other, d := range daemons(r) {
		switch {
		case other == name && d.Replaced:
			t.Errorf("%s is still a replaced one after restore", name)
		case other != name && d.Pid != before[other].Pid:
			t.Errorf("%s went from pid %d to %d", other, before[other].Pid, d.Pid)
		}
	}
}

// restartEach: every daemon can be restarted in place, the gateway among them: a client that
// follows its GOAWAY does not notice.
func restartEach(t *testing.T, r *vm.Running) {
	ctx := vm.Context(t)
	load, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for load.Err() == nil {
				if _, err := r.Machine0().GetVersion(ctx, &machine.GetVersionRequest{}); err != nil {
					t.Errorf("a call was lost: %v", err)
					return
				}
			}
		})
	}
	for _, d := range r.WaitUp() {
		if d.OnRequest {
			continue // nobody has asked for it
		}
		if _, err := r.Machine0().RestartDaemon(ctx, &machine.RestartDaemonRequest{Name: d.Name}); err != nil {
			t.Errorf("restart %s: %v", d.Name, err)
		}
	}
	stop()
	wg.Wait()
	r.WaitUp()
}

// Refused is the scenario of a production image, which has no such method.
func Refused(t *testing.T, r *vm.Running) {
	if _, err := r.Replace(vm.Context(t), name, build(t, "sleeper")); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v; want Unimplemented", err)
	}
}

func daemons(r *vm.Running) map[string]*machine.Daemon {
	out := map[string]*machine.Daemon{}
	for _, d := range r.WaitUp() {
		out[d.Name] = d
	}
	return out
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func build(t *testing.T, which string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), which)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "github.com/dactyl-os/dactyl/test/boot/replace_daemon/"+which)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", which, err, text)
	}
	return read(t, out)
}
