package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
	"github.com/dactyl-os/dactyl/buildkit/packages"
)

func TestInterpretersAreFound(t *testing.T) {
	const elf = "\x7fELF\x02\x01\x01"
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		problem       string // "" is none
	}{
		{"lib/dactyl/logd", elf, 0o755, ""},
		{"etc/hosts", "127.0.0.1 localhost\n", 0o644, ""},
		{"etc/empty", "", 0o644, ""},
		{"etc/hash", "# a comment", 0o644, ""},
		{"lib/dactyl/hook", "#!/lib/dactyl/logd\n", 0o755, "a script"},
		{"etc/profile", "#!/bin/sh\n", 0o644, "a script"},
		{"lib/dactyl/other", elf, 0o755, "a program or library that"},
		{"lib/dactyl/plugin.so", elf, 0o644, "a program or library that"},
		{"etc/data", "MZ", 0o755, "can be executed"},
		{"bin/busybox", elf, 0o755, "an interpreter"},
		{"bin/python3.11", "", 0o644, "an interpreter"},
		{"bin/mawk", "", 0o644, "an interpreter"},
	} {
		root := t.TempDir()
		file := filepath.Join(root, c.name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		err := checkInterpreters(root, []string{"/lib/dactyl/logd"})
		if c.problem == "" && err != nil || c.problem != "" && (err == nil || !strings.Contains(err.Error(), "/"+c.name+": ") || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s: %v; want %q", c.name, err, c.problem)
		}
	}
	root := t.TempDir()
	if err := os.Symlink("/lib/dactyl/logd", filepath.Join(root, "sh")); err != nil {
		t.Fatal(err)
	}
	if err := checkInterpreters(root, nil); err == nil {
		t.Error("a link called sh is none")
	}
}

// installed is where packages.Build has its files put, without building any.
func installed(t *testing.T) []packages.File {
	t.Helper()
	files := []packages.File{{Path: "/lib/pods/pause"}}
	for _, p := range packages.Packages {
		files = append(files, packages.File{Path: p.Install[0]})
	}
	debian, err := packages.Debian(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range debian {
		files = append(files, f.File)
	}
	return files
}

// Every file of the roots that were built here last. A build checks its own root, too.
func TestStagedRootsHaveNoInterpreter(t *testing.T) {
	t.Chdir("../..")
	found := false
	for _, mode := range []string{"production", "dev", "test"} {
		root := filepath.Join(Dir(mode), "root")
		if _, err := os.Stat(filepath.Join(root, "init")); err != nil {
			continue
		}
		found = true
		b, err := manifest.Read(t.Context(), ".", mode)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkInterpreters(root, programPaths(b, installed(t))); err != nil {
			t.Errorf("%s:\n%v", root, err)
		}
	}
	if !found {
		t.Skip("no root has been staged here; make image stages one, and checks it")
	}
}
