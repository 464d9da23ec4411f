package kernel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A comment may be improved without a new kernel; a setting may not.
func TestKeyIgnoresComments(t *testing.T) {
	a := settings("# why\nCONFIG_A=y\n\n# CONFIG_B is not set\n")
	b := settings("CONFIG_A=y\n# a better reason\n# CONFIG_B is not set\n")
	if a != b {
		t.Errorf("comments count: %q and %q", a, b)
	}
	if a == settings("CONFIG_A=y\n") {
		t.Error("an option that is switched off does not count")
	}
	if hashText("ab", "c") == hashText("a", "bc") {
		t.Error("parts of the key run together")
	}
}

// A directory of the cache is complete or not there.
func TestPublish(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "key")
	err := publish(dir, []artefact{{name: "version", text: "1\n"}, {name: "bzImage", from: "/does/not/exist"}})
	if err == nil {
		t.Fatal("a missing file was published")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("half a directory was published")
	}
	if err := publish(dir, []artefact{{name: "version", text: "1\n"}}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "version")); err != nil || string(text) != "1\n" {
		t.Fatalf("%q, %v", text, err)
	}
}

// The second build waits for the first, or gives up when it is told to.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var told bytes.Buffer
	if _, err := lock(ctx, path, &told); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("two hold the lock: %v", err)
	}
	if !strings.Contains(told.String(), "waiting") {
		t.Error("it waits without a word")
	}
	unlock()
	if unlock, err = lock(t.Context(), path, io.Discard); err != nil {
		t.Fatal(err)
	}
	unlock()
}

// The error of a failed step ends with what the step said last.
func TestRunTellsWhy(t *testing.T) {
	var progress bytes.Buffer
	err := run(t.Context(), &progress, "sh", "-c", "echo '  CC    a.c'; echo 'a.c:1: wrong' >&2; exit 2")
	if err == nil || !strings.Contains(err.Error(), "a.c:1: wrong") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(progress.String(), "CC a.c\n") {
		t.Errorf("progress was %q", progress.String())
	}
}

// Equal inputs must give equal seeds, and another configuration other ones.
func TestSeeds(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	w := &workshop{tarball: "0123"}
	seeds := func(text string) string {
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args, err := w.plantSeeds(dir, config)
		if err != nil {
			t.Fatal(err)
		}
		script, err := os.ReadFile(filepath.Join(dir, "randstruct-seed.sh"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(args, " ") + string(script)
	}
	a, b, c := seeds("CONFIG_A=y\n"), seeds("CONFIG_A=y\n"), seeds("CONFIG_A=n\n")
	if a != b || a == c {
		t.Error("the seeds do not follow the configuration")
	}
}

// An edit that does not find its place exactly once would change another kernel
// than the one it was written for.
func TestEdit(t *testing.T) {
	for text, want := range map[string]string{
		"a\nselect KCMP\nb\n":        "a\nb\n",
		"a\nb\n":                     "",
		"select KCMP\nselect KCMP\n": "",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "Kconfig")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := edit{"Kconfig", "select KCMP\n", ""}.apply(dir)
		if (err == nil) != (want != "") {
			t.Errorf("%q: %v", text, err)
		}
		if got, _ := os.ReadFile(path); err == nil && string(got) != want {
			t.Errorf("%q became %q", text, got)
		}
	}
}
