package main

import (
	"os"
	"path/filepath"
	"testing"

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
