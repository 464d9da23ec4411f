package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/log"
)

// The real program, sealed, is killed and started again, as PID 1 would: no
// line is lost, and a follower goes on from the cursor that it had.
func TestKilled(t *testing.T) {
	if f, err := os.Open("/dev/kmsg"); err != nil {
		t.Skip(err)
	} else {
		f.Close()
	}
	binary := filepath.Join(t.TempDir(), "logd")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := newMachine(t)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	listening, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listening.Close() })
	dir := t.TempDir()
	start := func() *exec.Cmd { return launch(t, binary, dir, listening, m.daemonLog) }

	p := ipc.NewPeer("log", socket)
	t.Cleanup(p.Close)
	client := log.NewClient(p)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	follow := func(after uint64) ipc.Receiver[*log.Line] {
		s, err := client.ReadLog(ctx, &log.ReadLogRequest{Daemon: "networkd", Follow: true, After: after})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	first := start()
	m.say(m.daemon, "one\ntwo\n")
	expect(t, follow(0), "1 one", "2 two")
	first.Process.Kill()
	first.Wait()
	m.say(m.daemon, "while nobody listened\n")
	waiting := follow(1) // in the backlog
	start()
	expect(t, waiting, "2 two", "3 while nobody listened")
	m.say(m.daemon, "four\n")
	expect(t, waiting, "4 four")
	if kernel, err := client.ReadKernel(ctx, &log.ReadKernelRequest{Tail: 1}); err != nil {
		t.Error(err)
	} else if _, err := kernel.Recv(); err != nil {
		t.Errorf("the kernel's log: %v", err)
	}
}

// launch starts logd and waits until it is ready.
func launch(t *testing.T, binary, dir string, listening, pipe *os.File) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(abi.Spec{
		Mode: abi.Test,
		Daemon: abi.Daemon{Name: "logd", Write: []string{dir}, Provider: abi.Provider{Callers: []abi.Caller{
			{Name: "tester", Service: "log", Full: log.Service, Methods: methods[log.Service]},
		}}},
		Descriptors: []abi.Descriptor{
			{Kind: abi.IPCSocket, Name: "tester", Service: "log"},
			{Kind: abi.LogPipe, Name: "networkd"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ready, notify, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ready.Close() })
	c := exec.Command(binary)
	c.Env = []string{abi.SpecEnv + "=" + string(spec)}
	c.ExtraFiles = []*os.File{notify, listening, pipe}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	notify.Close()
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	if _, err := ready.Read(make([]byte, 100)); err != nil {
		t.Fatalf("not ready: %v", err)
	}
	return c
}
