package vm

import (
	"path/filepath"
	"testing"
)

// Firmware alone is enough of a machine to be paused, saved and restored; no image is needed.
func TestMachineGoesOnWhereItWasSaved(t *testing.T) {
	ctx, saved := Context(t), filepath.Join(t.TempDir(), "it's "+memoryFile)
	m, err := Start(t.Context(), Config{Dir: t.TempDir(), MemoryMiB: 256, NIC: NoNIC})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	if err := m.listening(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.save(ctx, saved); err != nil {
		t.Fatal(err)
	}
	m.Kill()
	r, err := Start(t.Context(), Config{Dir: t.TempDir(), MemoryMiB: 256, NIC: NoNIC, Extra: []string{"-incoming", "defer"}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Kill()
	if err := r.listening(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.load(ctx, saved); err != nil {
		t.Fatal(err)
	}
	var now struct{ Status string }
	if err := r.qmp.query(ctx, "query-status", nil, &now); err != nil || now.Status != "running" {
		t.Errorf("a restored machine is %q, %v", now.Status, err)
	}
	if err := r.load(ctx, saved+" of another"); err == nil {
		t.Error("a running machine was restored again")
	}
}
