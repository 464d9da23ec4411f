// Package first_boot has what a production image on a new stick does in a machine
// without a way out. Package usb_boot_to_ready has the same of a test image, which needs half as
// long without KVM, and more.
package first_boot

import (
	"testing"

	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/test/boot/offline"
	"github.com/dactyl-os/dactyl/test/boot/usb_boot_to_ready"
	"github.com/dactyl-os/dactyl/test/vm"
)

func TestFirstBoot(t *testing.T) {
	r := vm.Boot(t, vm.Config{
		Image: vm.Image(t, "production"), YAML: "kubernetes: {}\n", NIC: vm.Offline, DiskGiB: 6, MemoryMiB: 2048, NoReboot: true,
	})
	if v, err := r.Machine0().GetVersion(vm.Context(t), &machine.GetVersionRequest{}); err != nil || v.Mode != "production" {
		t.Fatalf("mode %q, %v: want a production image", v.GetMode(), err)
	}
	t.Run("usb_boot_to_ready", func(t *testing.T) { usb_boot_to_ready.Scenario(t, r.For(t)) })
	t.Run("offline", func(t *testing.T) { offline.Scenario(t, r.For(t)) })
	// Pods are ended first, so it takes longer than without them; but it ends.
	if _, err := r.Machine0().Shutdown(vm.Context(t), &machine.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(vm.Context(t)); err != nil {
		t.Errorf("after Shutdown: %v", err)
	}
}
