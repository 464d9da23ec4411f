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
		place := "unnamed" + f[1]
		if len(f) > 2 {
			place = filepath.Base(f[2]) + "-in-sys"
			if !strings.Contains(f[2], "/") {
				place = f[2]
			}
		}
		dir := filepath.Join(sys, "devices", f[0], place)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../devices/"+f[0]+"/"+place, filepath.Join(sys, "dev", f[0], f[1])); err != nil {
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

// A stick is pulled and another disk gets its number, while the rest stays, and what no
// pattern asks for is not there.
func TestNodesAreWhatTheKernelLists(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may make device nodes")
	}
	dev := t.TempDir()
	patterns := []string{"/dev/sd*", "/dev/mapper/*"}
	sys := devices(t, "char 1:3 null 0666", "char 10:236 mapper/control", "block 8:0 sda", "block 8:1 sda1 0640", "block 7:0 loop0", "char 10:1", "char 10:2 ../sdb")
	if err := os.WriteFile(filepath.Join(dev, "sdz"), nil, 0o600); err != nil { // no device has this name
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := makeNodes(sys, dev, patterns); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := there(t, dev), "char 10:236 mapper/control 0600\nblock 8:0 sda 0600\nblock 8:1 sda1 0640"; got != want {
		t.Errorf("there is\n%s\nwant\n%s", got, want)
	}
	if err := makeNodes(devices(t, "char 8:1 sda1", "block 8:0 sdb"), dev, patterns[:1]); err != nil {
		t.Fatal(err)
	}
	if got, want := there(t, dev), "char 10:236 mapper/control 0600\nchar 8:1 sda1 0600\nblock 8:0 sdb 0600"; got != want {
		t.Errorf("then there is\n%s\nwant\n%s", got, want)
	}
}

// The numbers that are written down here are the build machine's, too.
func TestBasicNodes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may make device nodes")
	}
	dev := t.TempDir()
	if err := makeBasicNodes(dev); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Concat(commonDevices, domainDevices, []string{"/dev/kmsg"}) {
		var made, known unix.Stat_t
		if err := unix.Stat(filepath.Join(dev, filepath.Base(path)), &made); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if err := unix.Stat(path, &known); err != nil {
			continue // a container may not have it
		}
		if made.Rdev != known.Rdev || made.Mode&unix.S_IFMT != known.Mode&unix.S_IFMT {
			t.Errorf("%s is %d:%d, want %d:%d", path, unix.Major(made.Rdev), unix.Minor(made.Rdev), unix.Major(known.Rdev), unix.Minor(known.Rdev))
		}
	}
}
