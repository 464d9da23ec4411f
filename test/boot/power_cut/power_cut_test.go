// Scenario power_cut: the plug is pulled at random moments of the first boot after
// flashing, until the machine is ready and while its cluster comes. The machine always
// does by itself, with the identity it had, and becomes a Ready node. QEMU is killed: what
// the guest had not flushed may be lost, what it had is on the disk. If it fails, a node
// in the field is lost by a power failure.
//
// All that happens to a machine without a network card, so that its last boot is scenario
// no_network_at_all. Then it is given one, and claimed. Cuts under load, of a node that
// people use, are in reboot_and_power_cut.
package power_cut

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/storage"
	"github.com/dactyl-os/dactyl/test/boot/no_network_at_all"
	"github.com/dactyl-os/dactyl/test/vm"
)

const (
	cutsInFirstBoot       = 6
	cutsWhileClusterComes = 2
)

func TestPowerCuts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	config := vm.Config{
		Image: vm.Image(t, "test"), Dir: t.TempDir(), Disk: vm.BuiltIn, YAML: "kubernetes: {}\n", MemoryMiB: 2048, NIC: vm.NoNIC,
	}

	var shown []string // fingerprints that the console has shown before a cut
	for range cutsInFirstBoot {
		// From when PID 1 starts, where the disk is first written to, to a little
		// after the machine is ready.
		shown = append(shown, cut(t, config, random.Float64())...)
	}
	for range cutsWhileClusterComes {
		shown = append(shown, cut(t, config, 1+4*random.Float64())...) // to a little before the node is Ready
	}
	if !t.Run("no_network_at_all", func(t *testing.T) { no_network_at_all.Scenario(t, config) }) {
		return
	}

	config.NIC = vm.UserNetwork
	r := vm.Boot(t, config)
	digest := sha256.Sum256(r.Identity.Authority.Raw)
	for _, f := range shown {
		if f != hex.EncodeToString(digest[:]) {
			t.Errorf("the console showed the CA %s before a cut; it is %x now", f, digest)
		}
	}
	mounts, err := storage.NewClient(r.Admin).ListMounts(vm.Context(t), &storage.ListMountsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts.Mounts {
		if m.Volume == "ephemeral" && strings.Contains(m.Note, "recreated") {
			t.Errorf("EPHEMERAL was recreated (%s): its journal should have been enough", m.Note)
		}
	}
}

// cut pulls the plug some time after PID 1 has started, and returns the fingerprints that
// the console had shown. The unit of time is what the firmware and the kernel took on this
// host: the machine is ready after most of one more.
func cut(t *testing.T, c vm.Config, after float64) []string {
	t.Helper()
	begin := time.Now()
	m, err := vm.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	if _, err := m.Serial.WaitFor(vm.Context(t), 0, vm.Started); err != nil {
		screen := filepath.Join(os.TempDir(), "dactyl-power-cut.png")
		t.Fatalf("%v; its screen: %s (%v)", err, screen, m.Screendump(t.Context(), screen))
	}
	d := time.Duration(after * float64(time.Since(begin)))
	t.Logf("%v after PID 1 started", d.Round(time.Millisecond))
	vm.Elapse(t.Context(), d)
	var shown []string
	for _, l := range m.Serial.Lines() {
		if f, ok := strings.CutPrefix(l.Text, "fingerprint: "); ok && len(f) == 2*sha256.Size {
			shown = append(shown, f)
		}
	}
	return shown
}
