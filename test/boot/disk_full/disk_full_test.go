// Scenario disk_full: EPHEMERAL, then STATE, is filled to the last byte. The API
// stays up, daemons can be restarted, a reboot works, and after the files are
// removed all is as before. If it fails, a full disk takes a node away from the
// person who could empty it.
package disk_full

import (
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/test/vm"
)

const everything = 1 << 40

func TestFullDisks(t *testing.T) {
	r := vm.Boot(t, vm.Config{Disk: vm.BuiltIn, DiskGiB: 1})
	for _, file := range []string{"/var/fill", "/state/fill"} {
		t.Run(file, func(t *testing.T) { fill(t, r, file) })
	}
}

func fill(t *testing.T, r *vm.Running, file string) {
	ctx := vm.Context(t)
	full, err := probe.NewClient(r.Admin).FillDisk(ctx, &probe.FillDiskRequest{Path: file, SizeBytes: everything})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(full.Error, "no space left") {
		t.Fatalf("fill %s: %d bytes, error %q; want no space left", file, full.WrittenBytes, full.Error)
	}
	for _, d := range r.WaitUp() {
		if d.Name == "routerd" || d.Name == "mischiefd" || d.OnRequest {
			continue // their restart is part of the next step, or nobody has asked for them
		}
		if _, err := r.Machine0().RestartDaemon(ctx, &machine.RestartDaemonRequest{Name: d.Name}); err != nil {
			t.Errorf("restart %s on a full disk: %v", d.Name, err)
		}
	}
	boot := bootID(t, r)
	if _, err := r.Machine0().Reboot(ctx, &machine.RebootRequest{}); err != nil {
		t.Fatal(err)
	}
	vm.Eventually(t, func() string {
		if v, err := r.Machine0().GetVersion(ctx, &machine.GetVersionRequest{}); err != nil || v.BootId == boot {
			return "the machine did not come back from a reboot with a full disk"
		}
		return ""
	})
	r.WaitUp()
	if _, err := probe.NewClient(r.Admin).FillDisk(ctx, &probe.FillDiskRequest{Path: file}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Trust().ListCertificates(ctx, &trust.ListCertificatesRequest{}); err != nil {
		t.Errorf("after the disk was emptied: %v", err)
	}
	_ = r.As(auth.Role_ROLE_READER) // issuing writes to STATE
}

func bootID(t *testing.T, r *vm.Running) string {
	t.Helper()
	v, err := r.Machine0().GetVersion(vm.Context(t), &machine.GetVersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return v.BootId
}
