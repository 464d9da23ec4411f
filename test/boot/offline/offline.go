// Scenario offline: the machine has an address, a gateway and a name server, and
// nothing behind them answers. It becomes a Ready node, runs pods that find each other
// by name, and sends no packet out, not one question for a time, a name, a registry
// or a newer release. If it fails, Dactyl calls somebody whom nobody asked it to
// call, or needs somebody who may not be there.
package offline

import (
	"fmt"
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

// Scenario wants a machine that is vm.Offline since its power-on.
func Scenario(t *testing.T, r *vm.Running) {
	r.WaitReady()
	r.NeedTestImage()
	c := r.Cluster().In("offline")
	c.Run("run", "server", "--image="+vm.TestImageName, "--port=8080", "--expose")
	c.Run("wait", "--for=condition=Ready", "--timeout=3m", "pod/server")
	vm.Eventually(t, func() string { // a Service takes a moment to be in kube-proxy and CoreDNS
		if answer, err := c.Try("", "exec", "server", "--", "workload", "get", "http://server:8080/"); err != nil {
			return fmt.Sprintf("a pod asks a Service by its name: %v %s", err, answer)
		}
		return ""
	})

	leaving, err := r.Leaving()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range leaving {
		t.Errorf("the machine sent %v", p)
	}
}
