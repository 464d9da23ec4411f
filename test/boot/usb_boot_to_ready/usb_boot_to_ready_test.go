package usb_boot_to_ready_test

import (
	"testing"

	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/test/boot/confinement"
	"github.com/dactyl-os/dactyl/test/boot/offline"
	"github.com/dactyl-os/dactyl/test/boot/usb_boot_to_ready"
	"github.com/dactyl-os/dactyl/test/vm"
)

// The scenarios that look at what a boot has left, on one machine that has just booted.
// Package first_boot has the same of a production image. The last is power-off: pods are
// ended first, so it takes longer than without them; but it ends.
func TestUSBBootToReady(t *testing.T) {
	r := vm.Boot(t, vm.Config{YAML: "kubernetes: {}\n", NIC: vm.Offline, MemoryMiB: 2048})
	t.Run("usb_boot_to_ready", func(t *testing.T) { usb_boot_to_ready.Scenario(t, r.For(t)) })
	t.Run("offline", func(t *testing.T) { offline.Scenario(t, r.For(t)) })
	t.Run("confinement", func(t *testing.T) { confinement.Scenario(t, r.For(t)) })
	if _, err := r.Machine0().Shutdown(vm.Context(t), &machine.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(vm.Context(t)); err != nil {
		t.Errorf("after Shutdown: %v", err)
	}
}
