// Scenario tampered_root: one byte of the root partition is changed on the disk.
// The kernel refuses to read it, and the machine never serves what was changed. If
// it fails, a system that was altered on the disk would run.
package tampered_root

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

const sectorBytes = 512

func TestChangedRootIsRefused(t *testing.T) {
	image := copyOf(t, vm.Image(t, "test"))
	first, squashfs := rootPartition(t, image)
	for what, at := range map[string]int64{
		// The superblock is read before anything else; the last blocks of the
		// filesystem hold its tables, which mounting reads.
		"superblock": 8,
		"tables":     squashfs - 100,
	} {
		t.Run(what, func(t *testing.T) { refused(t, image, first*sectorBytes+at) })
	}
}

// refused flips one byte, sees the machine stop, and flips it back.
func refused(t *testing.T, image string, at int64) {
	flip(t, image, at)
	defer flip(t, image, at)
	ctx := vm.Context(t)
	m, err := vm.Start(ctx, vm.Config{Image: image, Dir: t.TempDir(), Disk: vm.BuiltIn, NoReboot: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	if _, err := m.Serial.WaitFor(ctx, 0, `device-mapper: verity: .*(data|metadata) block \d+ is corrupted`); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Serial.WaitFor(ctx, 0, `Kernel panic - not syncing`); err != nil && !errors.Is(err, vm.ErrEnded) {
		t.Fatal(err)
	}
	if strings.Contains(m.Serial.Last(1000), "pairing code") {
		t.Error("the machine came up all the same")
	}
}

func copyOf(t *testing.T, image string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "dactyl.raw")
	if out, err := exec.Command("cp", "--sparse=always", image, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}

// rootPartition returns the first sector of ROOT-A and the size of its SquashFS,
// as sgdisk and the filesystem's own superblock tell.
func rootPartition(t *testing.T, image string) (first, squashfs int64) {
	t.Helper()
	out, err := exec.Command("sgdisk", "-i", "2", image).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "'ROOT-A'") {
		t.Fatalf("partition 2 is not ROOT-A:\n%s", out)
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "First sector: "); ok {
			first, err = strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	var made struct {
		SquashFS int64 `json:"squashfs"`
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(vm.Image(t, "test")), "image.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &made); err != nil {
		t.Fatal(err)
	}
	return first, made.SquashFS
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
