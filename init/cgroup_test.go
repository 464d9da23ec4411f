package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// An entry that cannot be removed is logged once, and removed when that is possible. A
// directory with a file in it stands for a cgroup whose process the kernel cannot end yet.
func TestEntryThatIsLeftIsRemovedLater(t *testing.T) {
	warned := 0
	c := &cgroups{domains: t.TempDir(), dir: t.TempDir(), warn: func(string, ...any) { warned++ }}
	d := abi.Daemon{Name: "runtime", Domain: "pods", Foreign: &abi.Foreign{}}
	entry, leaf := c.entry(d, 7), c.path(d, 7)
	busy := filepath.Join(entry, "cgroup.kill")
	for _, dir := range []string{entry, leaf} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(busy, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	there := func() bool { _, err := os.Stat(entry); return err == nil }
	c.removeEntry(d, 7)
	if err := c.remove(d, 7); err != nil || !there() || warned != 1 {
		t.Errorf("busy: there is %v, %d warnings, %v", there(), warned, err)
	}
	if err := os.Remove(busy); err != nil {
		t.Fatal(err)
	}
	if err := c.remove(d, 8); err != nil || there() || warned != 1 || len(c.left) != 0 {
		t.Errorf("free: there is %v, %d warnings, left %v, %v", there(), warned, c.left, err)
	}
	c.removeEntry(d, 7)
	if warned != 1 || len(c.left) != 0 {
		t.Errorf("gone: %d warnings, left %v", warned, c.left)
	}
}
