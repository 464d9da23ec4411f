// Scenario replace_under_pods: new binaries for kubed, networkd, storaged and routerd,
// one after another, then the image's own again, while pods serve requests from outside
// and from each other. No request fails, no container and no part of Kubernetes is
// restarted. If it fails, Dactyl cannot be developed, or updated, under a workload.
package replace_under_pods

import (
	"context"
	"slices"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/test/vm"
)

var replaced = []string{"kubed", "networkd", "storaged", "routerd"}

// Scenario wants vm.NodePort forwarded.
func Scenario(t *testing.T, r *vm.Running) {
	r.WaitReady()
	serving := r.Serving()
	ctx := vm.Context(t)
	before := daemons(ctx, t, r)
	serving.Undisturbed(t, func() {
		for _, name := range replaced {
			other := append(r.Binary(name), "another, by its digest"...)
			if _, err := r.Replace(ctx, name, other); err != nil {
				t.Errorf("replace %s: %v", name, err)
			}
			if d := daemons(ctx, t, r)[name]; !d.Replaced || d.Pid == before[name].Pid {
				t.Errorf("%s after it was replaced: %v", name, d)
			}
		}
		r.WaitReady() // the new kubed has looked at everything
		for _, name := range replaced {
			if _, err := dev.NewClient(r.Admin).RestoreDaemon(ctx, &dev.RestoreDaemonRequest{Name: name}); err != nil {
				t.Errorf("restore %s: %v", name, err)
			}
		}
		r.WaitReady()
	})
	for name, d := range daemons(ctx, t, r) {
		switch was := before[name]; {
		case slices.Contains(replaced, name) && d.Replaced:
			t.Errorf("%s still runs another binary", name)
		case !slices.Contains(replaced, name) && d.Pid != was.Pid:
			t.Errorf("%s went from process %d to %d", name, was.Pid, d.Pid)
		}
	}
}

func daemons(ctx context.Context, t *testing.T, r *vm.Running) map[string]*machine.Daemon {
	t.Helper()
	list, err := r.Machine0().ListDaemons(ctx, &machine.ListDaemonsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*machine.Daemon{}
	for _, d := range list.Daemons {
		out[d.Name] = d
	}
	return out
}
