// Scenario kill_each_daemon: SIGKILL for each daemon in turn. Only that one
// restarts, the others keep their processes and never fail a call, and a call to
// the killed one waits and succeeds. If it fails, one crash takes others along.
package kill_each_daemon

import (
	"context"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/log"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/ipc/storage"
	"github.com/dactyl-os/dactyl/ipc/time"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/test/vm"
)

const sigkill = 9

// calls has one cheap call to each daemon that serves.
func calls(c *vm.Conn) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"configd": func(ctx context.Context) error {
			_, err := config.NewClient(c).GetConfig(ctx, &config.GetConfigRequest{})
			return err
		},
		"kubed": func(ctx context.Context) error {
			_, err := kube.NewClient(c).GetStatus(ctx, &kube.GetStatusRequest{})
			return err
		},
		"logd": func(ctx context.Context) error {
			lines, err := log.NewClient(c).ReadLog(ctx, &log.ReadLogRequest{Daemon: "init", Tail: 1})
			if err != nil {
				return err
			}
			_, err = lines.Recv()
			return err
		},
		"networkd": func(ctx context.Context) error {
			_, err := network.NewClient(c).ListLinks(ctx, &network.ListLinksRequest{})
			return err
		},
		"storaged": func(ctx context.Context) error {
			_, err := storage.NewClient(c).ListDisks(ctx, &storage.ListDisksRequest{})
			return err
		},
		"timed": func(ctx context.Context) error {
			_, err := time.NewClient(c).GetTime(ctx, &time.GetTimeRequest{})
			return err
		},
		"trustd": func(ctx context.Context) error {
			_, err := trust.NewClient(c).ListCertificates(ctx, &trust.ListCertificatesRequest{})
			return err
		},
	}
}

// Scenario leaves every daemon with another process.
func Scenario(t *testing.T, r *vm.Running) {
	for _, d := range r.WaitUp() {
		if d.Name == "mischiefd" || d.OnRequest { // on a node: kill_each_component
			continue
		}
		t.Run(d.Name, func(t *testing.T) { kill(t, r, d.Name) })
	}
}

func kill(t *testing.T, r *vm.Running, name string) {
	before := pids(r)
	ctx, stop := context.WithCancel(vm.Context(t))
	var wg sync.WaitGroup
	// Others are called all the while. When the gateway itself is killed its
	// connections break, and there is nobody to keep calls for.
	if name != "routerd" {
		for other, call := range calls(r.Admin) {
			if other == name {
				continue
			}
			wg.Go(func() {
				for ctx.Err() == nil {
					if err := call(ctx); err != nil && ctx.Err() == nil {
						t.Errorf("%s killed: a call to %s failed: %v", name, other, err)
						return
					}
				}
			})
		}
	}
	_, err := probe.NewClient(r.Admin).Signal(ctx, &probe.SignalRequest{Daemon: name, Signal: sigkill})
	if err != nil && !(name == "routerd" && status.Code(err) == codes.Unavailable) { // it was to carry the answer
		t.Fatal(err)
	}
	if call := calls(r.Admin)[name]; call != nil {
		if err := call(ctx); err != nil {
			t.Errorf("the call that came after the kill: %v", err)
		}
	}
	vm.Eventually(t, func() string {
		if now := pids(r); now[name] == before[name] || now[name] == 0 {
			return name + " was not restarted"
		}
		return ""
	})
	stop()
	wg.Wait()
	after := pids(r)
	for other, pid := range before {
		if other != name && after[other] != pid {
			t.Errorf("%s killed: %s went from pid %d to %d", name, other, pid, after[other])
		}
	}
}

func pids(r *vm.Running) map[string]int32 {
	out := map[string]int32{}
	for _, d := range r.WaitUp() {
		out[d.Name] = d.Pid
	}
	return out
}
