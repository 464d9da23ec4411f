// Scenario usb_boot: the flashed image boots from a USB stick through UEFI on a
// machine it has never seen, grows into the stick, can be claimed, takes no other
// daemons than its own, and powers off cleanly. If it fails, nothing else works for a user either.
package usb_boot

import (
	"fmt"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/storage"
	"github.com/dactyl-os/dactyl/test/boot/replace_daemon"
	"github.com/dactyl-os/dactyl/test/vm"
)

func TestUSBBoot(t *testing.T) {
	r := vm.Boot(t, vm.Config{Image: vm.Image(t, "production"), DiskGiB: 6, NoReboot: true})
	ctx := vm.Context(t)

	v, err := r.Machine0().GetVersion(ctx, &machine.GetVersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if v.Mode != "production" || len(v.RootHash) != 64 {
		t.Errorf("mode %q, root hash %q: want a production image with a verified root", v.Mode, v.RootHash)
	}

	disks, err := storage.NewClient(r.Admin).ListDisks(ctx, &storage.ListDisksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var system *storage.Disk
	for _, d := range disks.Disks {
		if d.System {
			system = d
		}
	}
	if system == nil || system.Transport != "usb" || system.SizeBytes != 6<<30 {
		t.Errorf("system disk %v: want the USB stick of 6 GiB", system)
	}

	seen := map[string]*storage.Mount{}
	// It grows while the machine is used already.
	vm.Eventually(t, func() string {
		mounts, err := storage.NewClient(r.Admin).ListMounts(ctx, &storage.ListMountsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mounts.Mounts {
			seen[m.Volume] = m
		}
		if m := seen["ephemeral"]; m.GetSizeBytes() < 5<<30 {
			return fmt.Sprintf("EPHEMERAL %v: want it grown over the stick", m)
		}
		return ""
	})
	if m := seen["state"]; m.GetFilesystem() != "ext4" || m.GetReadOnly() {
		t.Errorf("STATE %v: want a writable ext4", m)
	}
	if m := seen["root"]; !m.GetReadOnly() {
		t.Errorf("root %v: want it read-only", m)
	}

	addresses, err := network.NewClient(r.Admin).ListAddresses(ctx, &network.ListAddressesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	dhcp := false
	for _, a := range addresses.Addresses {
		dhcp = dhcp || a.Origin == "dhcp"
	}
	if !dhcp {
		t.Errorf("addresses %v: want one by DHCP", addresses.Addresses)
	}

	links, err := network.NewClient(r.Admin).ListLinks(ctx, &network.ListLinksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links.Links {
		names = append(names, l.Name)
	}
	if len(names) != 2 { // the machine has one card
		t.Errorf("links %v: want lo and the network card, and none that nobody made", names)
	}

	replace_daemon.Refused(t, r)

	if _, err := r.Machine0().Shutdown(ctx, &machine.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(ctx); err != nil {
		t.Fatalf("after shutdown: %v", err)
	}
}
