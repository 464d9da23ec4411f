package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// devices writes a /sys/dev with these: class, number, name and mode.
func devices(t *testing.T, lines ...string) string {
	t.Helper()
	sys := t.TempDir()
	for _, class := range slices.Collect(maps.Keys(nodeClasses)) {
		if err := os.MkdirAll(filepath.Join(sys, "dev", class), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range lines {
		f := strings.Fields(line)
		major, minor, _ := strings.Cut(f[1], ":")
		text := fmt.Sprintf("MAJOR=%s\nMINOR=%s\n", major, minor)
		if len(f) > 2 {
			text += "DEVNAME=" + f[2] + "\nDEVTYPE=disk\n"
		}
		if len(f) > 3 {
			text += "DEVMODE=" + f[3] + "\n"
		}
		dir := filepath.Join(sys, "dev", f[0], f[1])
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "uevent"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sys
}

// there lists the nodes in a directory as devices takes them.
func there(t *testing.T, dev string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dev, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		kind := map[uint32]string{unix.S_IFCHR: "char", unix.S_IFBLK: "block"}[st.Mode&unix.S_IFMT]
		out = append(out, fmt.Sprintf("%s %d:%d %s %#o", kind, unix.Major(st.Rdev), unix.Minor(st.Rdev), strings.TrimPrefix(path, dev+"/"), st.Mode&0o777))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

// A stick is pulled and another disk gets its number, while the rest stays.
func TestNodesAreWhatTheKernelLists(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may make device nodes")
	}
	dev := t.TempDir()
	sys := devices(t, "char 1:3 null 0666", "char 10:236 mapper/control", "block 8:0 sda", "block 8:1 sda1", "char 10:1", "char 10:2 ../../etc/passwd")
	for range 2 { // the second time there is nothing to do
		if err := makeNodes(sys, dev); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := there(t, dev), "char 10:236 mapper/control 0600\nchar 1:3 null 0666\nblock 8:0 sda 0600\nblock 8:1 sda1 0600"; got != want {
		t.Errorf("there is\n%s\nwant\n%s", got, want)
	}
	if err := makeNodes(devices(t, "char 1:3 null 0666", "char 8:1 sda1", "block 8:0 sdb"), dev); err != nil {
		t.Fatal(err)
	}
	if got, want := there(t, dev), "char 1:3 null 0666\nchar 8:1 sda1 0600\nblock 8:0 sdb 0600"; got != want {
		t.Errorf("then there is\n%s\nwant\n%s", got, want)
	}
}
