package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

// A file that no configuration names any more is removed, with its folder: containerd takes the
// folder of a registry, even an empty one, instead of what holds for all of them.
func TestSweepRemovesFoldersThatAreEmpty(t *testing.T) {
	f := files{gives: t.TempDir()}
	all := render.Program{Receiver: "pods", Files: []render.File{{Name: "a.toml"}, {Name: "certs.d/kept/hosts.toml"}, {Name: "certs.d/gone/hosts.toml"}, {Name: "certs.d/gone/ca.crt"}}}
	if err := f.give(all); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(f.gives, "coredns"), 0o750); err != nil { // PID 1's, and empty
		t.Fatal(err)
	}
	left := all
	left.Files = all.Files[:2]
	for range 2 {
		if err := f.sweep([]render.Program{left}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{"pods/a.toml": true, "pods/certs.d/kept/hosts.toml": true, "pods/certs.d/gone": false, "coredns": true} {
		if _, err := os.Stat(filepath.Join(f.gives, name)); (err == nil) != want || err != nil && !os.IsNotExist(err) {
			t.Errorf("%s is there: %v, want %v", name, err, want)
		}
	}
}

func TestWhatWasHealthyIsKept(t *testing.T) {
	f := files{keeps: t.TempDir()}
	if worked, err := f.readWorked(); err != nil || len(worked) != 0 {
		t.Errorf("at first: %v, %v", worked, err)
	}
	want := map[partName]string{"kubelet": "a", "containerd": "b"}
	if err := f.keepWorked(want); err != nil {
		t.Fatal(err)
	}
	if worked, err := f.readWorked(); err != nil || !maps.Equal(worked, want) {
		t.Errorf("kept: %v, %v", worked, err)
	}
	for _, text := range []string{"", "null", "[]", `{"kubelet": 1}`} {
		if err := os.WriteFile(filepath.Join(f.keeps, workedFile), []byte(text), kept); err != nil {
			t.Fatal(err)
		}
		if worked, err := f.readWorked(); err == nil || worked == nil || len(worked) != 0 {
			t.Errorf("%q: %v, %v", text, worked, err)
		}
	}
}

func TestDiskIsFull(t *testing.T) {
	for name, c := range map[string]struct {
		st   unix.Statfs_t
		full bool
	}{
		"room":                     {unix.Statfs_t{Bsize: 4096, Bavail: 1 << 20, Files: 1000, Ffree: 900}, false},
		"no space":                 {unix.Statfs_t{Bsize: 4096, Bavail: 0, Bfree: 1 << 20, Files: 1000, Ffree: 900}, true},
		"little space":             {unix.Statfs_t{Bsize: 4096, Bavail: 4095, Files: 1000, Ffree: 900}, true},
		"no files":                 {unix.Statfs_t{Bsize: 4096, Bavail: 1 << 20, Files: 1000, Ffree: 0}, true},
		"files without any number": {unix.Statfs_t{Bsize: 4096, Bavail: 1 << 20}, false},
	} {
		if got := tooFull(c.st); got != c.full {
			t.Errorf("%s: %v, want %v", name, got, c.full)
		}
	}
	if (files{keeps: filepath.Join(t.TempDir(), "none")}).full() {
		t.Error("what cannot be known counts as full")
	}
}
