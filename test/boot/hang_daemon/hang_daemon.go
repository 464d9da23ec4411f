// Scenario hang_daemon: SIGSTOP makes a daemon hang without dying. PID 1 misses
// its sign of life, kills and restarts it, and a call made meanwhile succeeds. If
// it fails, a deadlocked daemon stays down until a person notices.
package hang_daemon

import (
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/log"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/test/vm"
)

const sigstop = 19

// Scenario leaves networkd with another process.
func Scenario(t *testing.T, r *vm.Running) {
	ctx := vm.Context(t)
	stopped, err := probe.NewClient(r.Admin).Signal(ctx, &probe.SignalRequest{Daemon: "networkd", Signal: sigstop})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := network.NewClient(r.Admin).ListLinks(ctx, &network.ListLinksRequest{}); err != nil {
		t.Errorf("a call to the hung daemon: %v; want it to wait and succeed", err)
	}
	for _, d := range r.WaitUp() {
		if d.Name == "networkd" && d.Pid == stopped.Pid {
			t.Errorf("networkd still has the hung process %d", d.Pid)
		}
	}
	lines, err := log.NewClient(r.Admin).ReadLog(ctx, &log.ReadLogRequest{Daemon: "init"})
	if err != nil {
		t.Fatal(err)
	}
	for {
		l, err := lines.Recv()
		if err != nil {
			t.Fatalf("init's log never says that networkd gave no sign of life (%v)", err)
		}
		if strings.Contains(l.Text, "networkd") && strings.Contains(l.Text, "no sign of life") {
			return
		}
	}
}
