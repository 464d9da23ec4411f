package squashfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var testTime = time.Unix(1700000000, 0)

// stage makes a directory with every kind of file that an image may hold: empty,
// small, of exactly a block, of many, with holes, equal to another, and in a
// directory too long for one metadata block.
func stage(t *testing.T) string {
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 300<<10)
	for i := range noise {
		noise[i] = byte(rand.Uint32() >> (i >> 16)) // ever less random
	}
	put := func(name string, mode fs.FileMode, b []byte) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, mode); err != nil {
			t.Fatal(err)
		}
	}
	put("empty", 0o600, nil)
	put("etc/os-release", 0o644, []byte("ID=dactyl\n"))
	put("bin/noise", 0o755, noise)
	put("bin/twin", 0o500, noise)
	put("bin/block", 0o755, noise[:64<<10])
	put("bin/holes", 0o644, append(make([]byte, 200<<10), 'x'))
	for i := range 700 {
		put(fmt.Sprintf("many/a-file-with-rather-a-long-name-%0100d", i), 0o644, []byte(fmt.Sprint(i)))
	}
	if err := os.Symlink("bin/noise", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "a/b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	return root
}

func write(t *testing.T, root, cache string) (string, Stats) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.squashfs")
	stats, err := Write(context.Background(), root, out, Options{
		BlockSize: 64 << 10, Level: 3, Time: testTime, Cache: cache,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, stats
}

// The judge is unsquashfs: what it takes out must be what was put in.
func TestUnsquashfsReadsItBack(t *testing.T) {
	root := stage(t)
	img, _ := write(t, root, "")
	back := filepath.Join(t.TempDir(), "back")
	if out, err := exec.Command("unsquashfs", "-no-progress", "-d", back, img).CombinedOutput(); err != nil {
		t.Fatalf("unsquashfs: %v\n%s", err, out)
	}
	if out, err := exec.Command("diff", "-r", "--no-dereference", root, back).CombinedOutput(); err != nil {
		t.Fatalf("what came back differs: %s", out)
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want, _ := os.Lstat(path)
		got, err := os.Lstat(filepath.Join(back, strings.TrimPrefix(path, root)))
		if err != nil {
			return err
		}
		if got.Mode() != want.Mode() || !got.ModTime().Equal(testTime) {
			t.Errorf("%s: %s at %s, want %s at %s", path, got.Mode(), got.ModTime(), want.Mode(), testTime)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSameTreeSameBytes(t *testing.T) {
	root, cache := stage(t), t.TempDir()
	first, cold := write(t, root, cache)
	now := time.Now()
	if err := os.Chtimes(filepath.Join(root, "empty"), now, now); err != nil {
		t.Fatal(err)
	}
	second, warm := write(t, root, cache)
	third, _ := write(t, root, "")
	if cold.Compressed == 0 || warm.Compressed != 0 {
		t.Errorf("compressed %d bytes with an empty cache and %d with a full one, want some and none", cold.Compressed, warm.Compressed)
	}
	a, b, c := read(t, first), read(t, second), read(t, third)
	if !bytes.Equal(a, b) || !bytes.Equal(a, c) {
		t.Error("three images of one tree differ")
	}
}

// The kernel reads what mksquashfs makes, so the data must be the same to the byte.
// They were not once: see trim.
func TestDataIsWhatMksquashfsMakes(t *testing.T) {
	root := t.TempDir()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "program"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	ours, _ := write(t, root, "")
	theirs := filepath.Join(t.TempDir(), "theirs")
	out, err := exec.Command("mksquashfs", root, theirs, "-comp", "zstd", "-Xcompression-level", "3", "-b", "64K",
		"-all-root", "-no-xattrs", "-noappend", "-no-progress", "-quiet").CombinedOutput()
	if err != nil {
		t.Fatalf("mksquashfs: %v\n%s", err, out)
	}
	const inodeTableAt = 64
	a, b := read(t, ours), read(t, theirs)
	data := binary.LittleEndian.Uint64(b[inodeTableAt:])
	if got := binary.LittleEndian.Uint64(a[inodeTableAt:]); got != data || !bytes.Equal(a[superblockSize:data], b[superblockSize:data]) {
		t.Errorf("%d bytes of data, mksquashfs has %d and others", got, data)
	}
}

func TestTrim(t *testing.T) {
	const head = "\x28\xb5\x2f\xfd\x20\x01"
	for _, c := range []struct{ name, frame, want string }{
		{"raw block, then empty last", head + "\x08\x00\x00x" + "\x01\x00\x00", head + "\x09\x00\x00x"},
		{"repeated byte, then empty last", head + "\x0a\x00\x00x" + "\x01\x00\x00", head + "\x0b\x00\x00x"},
		{"already trimmed", head + "\x09\x00\x00x", head + "\x09\x00\x00x"},
		{"cut short", head + "\x08\x00\x00x", ""},
		{"something behind", head + "\x09\x00\x00xy", ""},
		{"no frame", "hello, world", ""},
		{"checksum", "\x28\xb5\x2f\xfd\x24\x01\x09\x00\x00x1234", ""},
	} {
		got, err := trim([]byte(c.frame))
		if string(got) != c.want && c.want != "" || (err == nil) != (c.want != "") {
			t.Errorf("%s: %x, %v; want %x", c.name, got, err, c.want)
		}
	}
}

func TestRefusesWhatDoesNotBelong(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"set-user-ID": func(p string) error {
			if err := os.WriteFile(p, nil, 0o755); err != nil {
				return err
			}
			return os.Chmod(p, 0o755|fs.ModeSetuid)
		},
		"neither a file": func(p string) error { return exec.Command("mkfifo", p).Run() },
	} {
		root := t.TempDir()
		if err := spoil(filepath.Join(root, "bad")); err != nil {
			t.Fatal(err)
		}
		_, err := Write(context.Background(), root, filepath.Join(t.TempDir(), "o"), Options{BlockSize: 4096, Level: 1, Time: testTime})
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "bad") {
			t.Errorf("%s: error %v does not name the file and its fault", name, err)
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
