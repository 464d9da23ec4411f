package main

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountsAreWellFormed(t *testing.T) {
	seen := map[string]bool{"/": true}
	for _, m := range mounts {
		if filepath.Clean(m.dir) != m.dir || seen[m.dir] {
			t.Errorf("%s: not clean, or twice", m.dir)
		}
		seen[m.dir] = true
		if m.flags&nosuid == 0 || m.flags&noexec == 0 {
			t.Errorf("%s: holds no programs, so nosuid and noexec", m.dir)
		}
		if m.flags&nodev == 0 && m.dir != "/dev" {
			t.Errorf("%s: holds no devices, so nodev", m.dir)
		}
		if m.kind == "tmpfs" && (!strings.Contains(m.data, "size=") || !strings.Contains(m.data, "mode=07")) {
			t.Errorf("%s: a tmpfs has a size, and only root writes its top", m.dir)
		}
		if m.flags&(unix.MS_SHARED|unix.MS_SLAVE|unix.MS_PRIVATE|unix.MS_BIND|unix.MS_REMOUNT) != 0 {
			t.Errorf("%s: propagation and binds take a call of their own", m.dir)
		}
	}
	if mounts[0].dir != "/proc" {
		t.Error("/proc is first: whether this is a machine is read from it")
	}
}

func TestMountsComeAfterTheirParents(t *testing.T) {
	parents := map[string]string{"/sys/fs/cgroup": "/sys", "/sys/kernel/security": "/sys"}
	at := map[string]int{}
	for i, m := range mounts {
		at[m.dir] = i
	}
	for child, parent := range parents {
		if at[child] <= at[parent] {
			t.Errorf("%s is mounted before %s, which would hide it", child, parent)
		}
	}
}
