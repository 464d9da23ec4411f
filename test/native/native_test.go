package native

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/storage"
)

// patience is for a build machine that has other things to do; only what never
// happens fails by it.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	Stage()
	os.Exit(m.Run())
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start stages the development system, which the go command has mostly compiled
// already, and starts it.
func start(t *testing.T) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may make namespaces with devices and mounts")
	}
	t.Chdir("../..")
	root := filepath.Join(t.TempDir(), "root")
	if _, err := system.Stage(bounded(t), "dev", "0.0.0-native", root, os.Stderr); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	m, err := Start(context.WithoutCancel(t.Context()), root, &log) // its life ends in Cleanup
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			explain(t, m)
		}
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("init said:\n%s", &log)
		}
	})
	return m
}

// explain logs what every daemon has said.
func explain(t *testing.T, m *Machine) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	binaries, _ := filepath.Glob(filepath.Join(m.cmd.Args[1], abi.DaemonDir, "*d"))
	for _, path := range binaries {
		t.Logf("%s said:\n%s", filepath.Base(path), m.Log(ctx, filepath.Base(path)))
	}
}

// The whole system comes up, is claimed, finds nothing of the host's, and is gone
// without a trace.
func TestStart(t *testing.T) {
	m := start(t)
	ctx := bounded(t)
	id, err := m.Claim(ctx)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := m.Dial(id)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	daemons, err := m.WaitUp(ctx, admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range daemons {
		if pids, err := m.Processes(d.Name); d.State == "up" && (len(pids) != 1 || err != nil) {
			t.Errorf("%s has the processes %v (%v), want one", d.Name, pids, err)
		}
	}

	links, err := network.NewClient(admin).ListLinks(ctx, &network.ListLinksRequest{})
	if err != nil || len(links.Links) > 1 {
		t.Errorf("links %v (%v), want none but lo", links, err)
	}
	mounts, err := storage.NewClient(admin).ListMounts(ctx, &storage.ListMountsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range mounts.Mounts {
		if strings.HasPrefix(v.Source, "/dev/") {
			t.Errorf("%s is mounted on %s: a disk of the host's", v.Source, v.Target)
		}
	}
}

// Told to shut down, PID 1 stops all daemons and ends as if it had switched a
// machine off.
func TestShutdown(t *testing.T) {
	m := start(t)
	ctx := bounded(t)
	id, err := m.Claim(ctx)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := m.Dial(id)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := machine.NewClient(admin).Shutdown(ctx, &machine.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(ctx); err != nil {
		t.Error(err)
	}
}

// A harness that dies takes everything with it; PID 1 must not outlive it on
// the build machine.
func TestKillLeavesNothing(t *testing.T) {
	m := start(t)
	pid := m.cmd.Process.Pid
	if _, err := m.Claim(bounded(t)); err != nil {
		t.Fatal(err)
	}
	other, err := Start(t.Context(), m.cmd.Args[1], new(bytes.Buffer))
	if err != nil {
		t.Fatalf("a second one beside it: %v", err)
	}
	if err := other.Kill(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the first one died with the second: %v", err)
	}
	if _, err := os.Stat(other.group.path); err == nil {
		t.Errorf("%s is left", other.group.path)
	}
}
