package native

import (
	"bytes"
	"context"
	"fmt"
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
	"github.com/dactyl-os/dactyl/test/vm"
)

// patience is for a build machine that has other things to do; only what never
// happens fails by it.
const patience = 20 * time.Second

// staged is the root that all tests start, each on a copy in memory.
var staged string

func TestMain(m *testing.M) {
	Stage()
	os.Exit(run(m))
}

// run stages the development system, which the go command has mostly compiled
// already.
func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // which skips
	}
	dir, err := os.MkdirTemp("", "dactyl-native-")
	if err == nil {
		defer os.RemoveAll(dir)
		staged = filepath.Join(dir, "root")
		err = os.Chdir("../..")
	}
	if err == nil {
		_, err = system.Stage(context.Background(), "dev", "0.0.0-native", staged, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start starts the staged root; its life ends with the test.
func start(t *testing.T) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may make namespaces with devices and mounts")
	}
	var log bytes.Buffer
	m, err := Start(context.WithoutCancel(t.Context()), staged, &log) // so that explain finds it alive
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
	binaries, _ := filepath.Glob(filepath.Join(staged, abi.DaemonDir, "*d"))
	for _, path := range binaries {
		t.Logf("%s said:\n%s", filepath.Base(path), m.Log(ctx, filepath.Base(path)))
	}
}

// claim returns the first admin's connection.
func claim(t *testing.T, m *Machine) *vm.Conn {
	t.Helper()
	id, err := m.Claim(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := m.Dial(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	return admin
}

// The whole system comes up, is claimed, finds nothing of the host's, and is gone
// without a trace.
func TestStart(t *testing.T) {
	m := start(t)
	ctx := bounded(t)
	admin := claim(t, m)
	daemons, err := m.WaitUp(ctx, admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range daemons {
		if pids, err := m.Processes(d.Name); d.State == machine.DaemonState_DAEMON_STATE_UP && (len(pids) != 1 || err != nil) {
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
	admin := claim(t, m)
	if _, err := machine.NewClient(admin).Shutdown(ctx, &machine.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(ctx); err != nil {
		t.Error(err)
	}
}

// Two of them do not know of each other, and one that is killed leaves nothing.
func TestTwoBesideEachOther(t *testing.T) {
	m := start(t)
	pid := m.cmd.Process.Pid
	claim(t, m)
	other, err := Start(t.Context(), staged, new(bytes.Buffer))
	if err != nil {
		t.Fatalf("a second one beside it: %v", err)
	}
	if err := other.Kill(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the first one died with the second: %v", err)
	}
	look, err := newCgroup()
	if err != nil {
		t.Fatal(err)
	}
	defer look.remove()
	left := filepath.Join(filepath.Dir(look.path), filepath.Base(other.group.path))
	if _, err := os.Stat(left); err == nil {
		t.Errorf("cgroup %s is left", filepath.Base(left))
	}
}
