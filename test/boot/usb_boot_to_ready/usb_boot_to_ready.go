// Scenario usb_boot_to_ready: the flashed image, on a USB stick in a machine that it has
// never seen, becomes a Ready node by itself, and a pod of an image that a person loads
// runs on it. If it fails, Dactyl does not do what it is for.
package usb_boot_to_ready

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/storage"
	"github.com/dactyl-os/dactyl/test/vm"
)

// Scenario wants a machine that has just been started and claimed.
func Scenario(t *testing.T, r *vm.Running) {
	r.WaitReady()
	ready := time.Now()
	ctx := vm.Context(t)

	disks, err := storage.NewClient(r.Admin).ListDisks(ctx, &storage.ListDisksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range disks.Disks {
		if d.System && d.Transport != "usb" {
			t.Errorf("the system is on %v: want the USB stick", d)
		}
	}
	s, err := r.Kube().GetStatus(ctx, &kube.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Components {
		if c.Restarts > 0 {
			t.Errorf("%s has been restarted %d times on the way", c.Name, c.Restarts)
		}
	}

	c := r.Cluster()
	if nodes := c.Run("get", "nodes", "--no-headers"); strings.Count(nodes, "\n") != 1 || !strings.Contains(nodes, " Ready ") {
		t.Errorf("kubectl get nodes: %s", nodes)
	}
	in := c.In("first")
	r.LoadImage(vm.TestImage(t))
	asked := time.Now()
	in.Run("run", "hello", "--image="+vm.TestImageName)
	in.Run("wait", "--for=condition=Ready", "--timeout=3m", "pod/hello")
	runs := time.Now()
	vm.Eventually(t, func() string {
		if text, err := in.Try("", "logs", "hello"); err != nil || text == "" {
			return fmt.Sprintf("the pod's log: %q, %v", text, err)
		}
		return ""
	})

	on := r.Serial.Lines()[0].Time // the firmware's first word
	t.Logf("power-on → pairing code %.0f s → Ready %.0f s; a pod created → Ready in %.1f s",
		shown(r.Serial, "pairing code: ").Sub(on).Seconds(), ready.Sub(on).Seconds(), runs.Sub(asked).Seconds())
}

// shown is when the console first had a line that begins so.
func shown(s *vm.Serial, prefix string) time.Time {
	for _, l := range s.Lines() {
		if strings.HasPrefix(l.Text, prefix) && !strings.HasSuffix(l.Text, "starting") {
			return l.Time
		}
	}
	return time.Time{}
}
