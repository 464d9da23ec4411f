// Scenario kill_each_component: SIGKILL for each part of Kubernetes in turn. It comes
// back by itself, no other part takes notice, and pods serve as if nothing had been. If
// it fails, a crash in somebody else's code needs a person, or is felt by users.
package kill_each_component

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/test/vm"
)

const sigkill = 9

var components = []string{
	"etcdd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns",
	"containerd", "kubelet", "kube-proxy", "kubed", "podd",
}

// Scenario wants vm.NodePort forwarded.
func Scenario(t *testing.T, r *vm.Running) {
	r.WaitReady()
	serving := r.Serving()
	c := r.Cluster().In("kill")
	serving.Undisturbed(t, func() {
		for _, name := range components {
			t.Run(name, func(t *testing.T) { kill(t, r, name) })
		}
		// Each says of itself that it is well. This takes them all.
		c.Run("create", "deployment", "after", "--image="+vm.TestImageName)
		c.Run("rollout", "status", "deployment/after", "--timeout=4m")
		vm.Eventually(t, func() string {
			answer, err := c.Try("", "exec", "deployment/after", "--", "workload", "get", "http://front."+vm.ServingNamespace+"/")
			if err != nil {
				return fmt.Sprintf("a new pod asks a Service by its name: %v %s", err, answer)
			}
			return ""
		})
	})
}

func kill(t *testing.T, r *vm.Running, name string) {
	ctx := t.Context() // what is waited for says more than a call that had no time left
	before, known := pids(ctx, t, r), restarts(ctx, t, r)[name]
	if _, err := probe.NewClient(r.Admin).Signal(ctx, &probe.SignalRequest{Daemon: name, Signal: sigkill}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	vm.Eventually(t, func() string {
		if pid := pids(ctx, t, r)[name]; pid == 0 || pid == before[name] {
			return fmt.Sprintf("%s was process %d, is %d", name, before[name], pid)
		}
		return ""
	})
	if name != "kubed" {
		vm.Eventually(t, func() string {
			if restarts(ctx, t, r)[name] <= known {
				return "kubed has not noticed that it was restarted"
			}
			return ""
		})
	}
	r.WaitReady()
	t.Logf("Ready after %v", time.Since(begin).Round(100*time.Millisecond))
	after := pids(ctx, t, r)
	for other, pid := range before {
		if other != name && after[other] != pid {
			t.Errorf("%s went from process %d to %d", other, pid, after[other])
		}
	}
}

// restarts are those of the components that kubed knows of.
func restarts(ctx context.Context, t *testing.T, r *vm.Running) map[string]uint32 {
	t.Helper()
	// A person who asks has kubed look at once; what it knows itself is in a brief answer.
	if _, err := r.Kube().GetStatus(ctx, &kube.GetStatusRequest{}); err != nil {
		t.Fatal(err)
	}
	now, err := r.Kube().GetStatus(ctx, &kube.GetStatusRequest{Brief: true})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint32{}
	for _, part := range now.Components {
		out[part.Name] = part.Restarts
	}
	return out
}

// pids are the processes of all that run.
func pids(ctx context.Context, t *testing.T, r *vm.Running) map[string]int32 {
	t.Helper()
	list, err := r.Machine0().ListDaemons(ctx, &machine.ListDaemonsRequest{Brief: true})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int32{}
	for _, d := range list.Daemons {
		out[d.Name] = d.Pid
	}
	return out
}
