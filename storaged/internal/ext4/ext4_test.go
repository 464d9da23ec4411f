package ext4

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	templateSize  = 96 << 20
	partitionSize = 160 << 20
	uuidByBuilder = "7b4c9c4e-3e43-8f4e-9d0a-5f1f0a3c2b1d" // version 8
)

// template is what the image's builder puts into the root.
func template(t *testing.T, args ...string) *os.File {
	t.Helper()
	f := create(t, "template", templateSize)
	tool(t, "mke2fs", append([]string{"-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", "8192", "-J", "size=32",
		"-L", "EPHEMERAL", "-U", uuidByBuilder, "-O", "^has_journal,metadata_csum,metadata_csum_seed,64bit,resize_inode,has_journal",
		"-E", "resize=268435456,lazy_itable_init=0,nodiscard", f.Name()}, args...)...)
	return f
}

func create(t *testing.T, name string, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path := "/usr/sbin/" + name
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not installed (package e2fsprogs)", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// garbage is a partition on which everything is wrong.
func garbage(t *testing.T) *os.File {
	t.Helper()
	f := create(t, "partition", partitionSize)
	b := bytes.Repeat([]byte{0xc0, 0x3b, 0x39, 0x98}, 1<<18) // jbd2's magic
	for at := int64(0); at < partitionSize; at += int64(len(b)) {
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// e2fsck accepts a copy made over garbage, and the copy ignores what it should.
func TestCopy(t *testing.T) {
	from, to := template(t), garbage(t)
	counted := &countingDevice{File: to}
	if err := Copy(counted, from); err != nil {
		t.Fatal(err)
	}
	if out := tool(t, "e2fsck", "-fn", to.Name()); !strings.Contains(out, "EPHEMERAL: 11/8192 files") {
		t.Errorf("e2fsck says\n%s", out)
	}
	if counted.bytes > templateSize/2 {
		t.Errorf("%d MiB written: free blocks were copied as well", counted.bytes>>20)
	}
	super, err := ReadSuperblock(to)
	if err != nil {
		t.Fatal(err)
	}
	if super.Blocks != templateSize/4096 || super.BlockSize != 4096 || !super.MadeByBuilder() {
		t.Errorf("superblock %+v", super)
	}
}

// Only the error flag counts. Without a flag the file system was in use when the power went,
// and its journal is replayed; that costs no check.
func TestErrorFlag(t *testing.T) {
	f := template(t)
	for state, want := range map[string]bool{"0": false, "1": false, "2": true, "3": true, "4": false} {
		tool(t, "debugfs", "-w", "-R", "set_super_value state "+state, f.Name())
		if super, err := ReadSuperblock(f); err != nil || super.HasErrors != want {
			t.Errorf("state %s: errors %v, %v", state, super.HasErrors, err)
		}
	}
}

// A power cut at any write leaves no superblock, so nobody mounts half a filesystem.
func TestCopyCutShort(t *testing.T) {
	from, to := template(t), create(t, "partition", partitionSize)
	whole := &countingDevice{File: to}
	if err := Copy(whole, from); err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < whole.writes; cut++ {
		err := Copy(&countingDevice{File: to, limit: cut}, from)
		if !errors.Is(err, errCut) {
			t.Fatalf("cut after %d writes: %v", cut, err)
		}
		if _, err := ReadSuperblock(to); err == nil {
			t.Fatalf("cut after %d of %d writes: a superblock", cut, whole.writes)
		}
	}
	if err := Copy(to, from); err != nil {
		t.Fatal(err)
	}
	tool(t, "e2fsck", "-fn", to.Name())
}

// What was not made by image's builder is not written over somebody's disk.
func TestUnfitTemplates(t *testing.T) {
	for name, args := range map[string][]string{
		"small blocks": {"-b", "1024", "-E", "nodiscard"},
		"two groups":   {"-g", "16384"},
	} {
		to := create(t, "partition", partitionSize)
		if err := Copy(to, template(t, args...)); !errors.Is(err, ErrTemplate) {
			t.Errorf("%s: %v", name, err)
		}
		first := make([]byte, 4096)
		if _, err := to.ReadAt(first, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
	}
	if _, err := ReadSuperblock(bytes.NewReader(make([]byte, 4096))); err == nil {
		t.Error("zeros are a filesystem")
	}
}

var errCut = errors.New("power cut")

// countingDevice counts what is written and fails after limit writes.
type countingDevice struct {
	*os.File
	bytes, writes, limit int
}

func (d *countingDevice) WriteAt(b []byte, at int64) (int, error) {
	if d.limit > 0 && d.writes == d.limit {
		return 0, errCut
	}
	d.writes++
	d.bytes += len(b)
	return d.File.WriteAt(b, at)
}

func (d *countingDevice) Sync() error { return nil }
