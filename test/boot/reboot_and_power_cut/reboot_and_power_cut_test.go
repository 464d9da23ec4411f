package reboot_and_power_cut

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/test/vm"
)

const (
	cutsWhileComing = 7
	cutsUnderLoad   = 3
	// comingSpan is from PID 1's start to a little before a new node is Ready on a
	// machine that does nothing else.
	comingSpan = 45 * time.Second
)

// The first cuts come while a cluster does, from a disk as it was flashed. At the end the
// machine is told to reboot, which pods are ended for.
func TestRebootAndPowerCuts(t *testing.T) {
	random := seeded(t)
	config := vm.Config{Image: vm.Image(t, "test"), Dir: t.TempDir(), YAML: "kubernetes: {}\n", MemoryMiB: 2048, Forward: []int{vm.NodePort}}

	var authority []byte // that some boot has shown
	for cut := range cutsWhileComing {
		after := time.Duration(random.Int64N(int64(comingSpan)))
		t.Logf("cut %d: %v after PID 1 started", cut+1, after.Round(time.Millisecond))
		if seen := cutAfter(t, config, after); seen != nil {
			if authority != nil && !bytes.Equal(seen, authority) {
				t.Errorf("cut %d: the machine has shown another CA than before", cut+1)
			}
			authority = seen
		}
	}

	r := vm.Boot(t, config)
	if authority != nil && !bytes.Equal(r.Identity.Authority.Raw, authority) {
		t.Error("the machine has another CA than before the cuts")
	}
	w := begin(t, r)
	for range cutsUnderLoad {
		w.cut(t)
	}
	w.reboot(t)
	w.end(t)
}

// cutAfter returns the CA that the machine showed before the cut; nil if it was too early.
func cutAfter(t *testing.T, c vm.Config, d time.Duration) []byte {
	t.Helper()
	m, err := vm.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	if _, err := m.Serial.WaitFor(vm.Context(t), 0, vm.Started); err != nil {
		screen := filepath.Join(os.TempDir(), "dactyl-reboot-and-power-cut.png")
		t.Fatalf("%v; its screen: %s (%v)", err, screen, m.Screendump(t.Context(), screen))
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for {
		ca, err := vm.Authority(ctx, m.API)
		if err == nil {
			<-ctx.Done()
			return ca.Raw
		}
		if !vm.Pause(ctx) {
			return nil
		}
	}
}
