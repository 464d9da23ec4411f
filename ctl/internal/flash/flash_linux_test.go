package flash

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// loop makes a loop device of so many bytes, full of old data. Tests that need
// one are skipped where there are none.
func loop(t *testing.T, size int64) (device, backing string) {
	t.Helper()
	backing = filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(backing, bytes.Repeat([]byte("old!"), int(size/4)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", "--partscan", backing).CombinedOutput()
	if err != nil {
		t.Skipf("no loop devices here: %v: %s", err, out)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", device, err, out)
		}
	})
	return device, backing
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
}

// sparse makes an image with data at both ends, holes, and zeros that are no
// hole; its size is no multiple of a chunk.
func sparse(t *testing.T) (*os.File, []byte) {
	t.Helper()
	content := make([]byte, 7<<20+4096)
	random := rand.NewChaCha8([32]byte{1})
	for _, span := range [][2]int{{0, 1<<20 + 512}, {3 << 20, 4 << 20}, {len(content) - 512, len(content)}} {
		random.Read(content[span[0]:span[1]])
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for _, span := range [][2]int{{0, 2 << 20}, {3 << 20, 4 << 20}, {7 << 20, len(content)}} {
		if _, err := f.WriteAt(content[span[0]:span[1]], int64(span[0])); err != nil {
			t.Fatal(err)
		}
	}
	return f, content
}

func nothing(int64) {}

func TestDeviceBecomesTheImage(t *testing.T) {
	image, content := sparse(t)
	size := int64(len(content))
	device, _ := loop(t, 16<<20)
	disk, err := ThisHost.Check(device, size)
	if err != nil {
		t.Fatal(err)
	}
	target, err := ThisHost.OpenDevice(disk)
	if err != nil {
		t.Fatal(err)
	}
	told := int64(0)
	if err := target.Write(context.Background(), image, size, func(n int64) { told += n }); err != nil {
		t.Fatal(err)
	}
	if told != size {
		t.Errorf("progress was told of %d bytes, want %d", told, size)
	}
	if _, err := target.Verify(context.Background(), image, size, nothing); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(device)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:size], content) {
		t.Error("the device does not begin with the image")
	}
	if !bytes.Equal(got[len(got)-chunkBytes:], zeros) {
		t.Error("an old backup table could still be at the device's end")
	}
}

func TestVerifyFindsOneWrongByte(t *testing.T) {
	image, content := sparse(t)
	size := int64(len(content))
	path := filepath.Join(t.TempDir(), "disk")
	target, err := OpenFile(Disk{Path: path, Bytes: size})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if err := target.Write(context.Background(), image, size, nothing); err != nil {
		t.Fatal(err)
	}
	const wrong = 5<<20 + 77 // in a hole of the image
	if _, err := target.file.WriteAt([]byte{1}, wrong); err != nil {
		t.Fatal(err)
	}
	_, err = target.Verify(context.Background(), image, size, nothing)
	var d *Different
	if !errors.As(err, &d) || d.Offset != wrong {
		t.Fatalf("got %v, want a difference at %d", err, wrong)
	}
}

// An interrupted disk must not look whole: its partition table is written last.
func TestInterruptedDiskHasNoTable(t *testing.T) {
	image, content := sparse(t)
	size := int64(len(content))
	device, _ := loop(t, 16<<20)
	disk, err := ThisHost.Check(device, size)
	if err != nil {
		t.Fatal(err)
	}
	target, err := ThisHost.OpenDevice(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	ctx, cancel := context.WithCancel(context.Background())
	err = target.Write(ctx, image, size, func(n int64) {
		if n > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's end", err)
	}
	head := make([]byte, chunkBytes)
	if _, err := target.file.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(head, zeros) {
		t.Error("the first megabyte is not empty")
	}
}

func wantRefusal(t *testing.T, err error, text string) {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || !strings.Contains(r.Reason, text) {
		t.Errorf("got %v, want a refusal with %q", err, text)
	}
}

func TestMountedDeviceIsRefused(t *testing.T) {
	device, _ := loop(t, 16<<20)
	dir := t.TempDir()
	run(t, "mkfs.ext4", "-q", device)
	run(t, "mount", device, dir)
	mounted := true
	unmount := func() {
		if mounted {
			run(t, "umount", dir)
			mounted = false
		}
	}
	defer unmount()
	_, err := ThisHost.Check(device, 1<<20)
	wantRefusal(t, err, "is mounted on "+dir)
	_, err = ThisHost.OpenDevice(Disk{Path: device, Bytes: 16 << 20})
	wantRefusal(t, err, "the kernel does not give it to a second owner")
	unmount()
	if _, err := ThisHost.Check(device, 1<<20); err != nil {
		t.Errorf("after unmounting: %v", err)
	}
}

func TestSwapIsRefused(t *testing.T) {
	device, _ := loop(t, 16<<20)
	run(t, "mkswap", device)
	if out, err := exec.Command("swapon", device).CombinedOutput(); err != nil {
		t.Skipf("no swap here: %v: %s", err, out)
	}
	defer run(t, "swapoff", device)
	_, err := ThisHost.Check(device, 1<<20)
	wantRefusal(t, err, "is swap space")
}

func TestTooSmallDeviceIsRefused(t *testing.T) {
	device, backing := loop(t, 1<<20)
	_, err := ThisHost.Check(device, 2<<20)
	wantRefusal(t, err, "too small: it has 1048576 bytes, the image 2097152")
	b, err := os.ReadFile(backing)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, bytes.Repeat([]byte("old!"), 1<<18)) {
		t.Error("something was written")
	}
}

func TestOwnDiskIsRefused(t *testing.T) {
	out, err := exec.Command("findmnt", "-no", "SOURCE", "/").Output()
	device := strings.TrimSpace(string(out))
	if err != nil || !strings.HasPrefix(device, "/dev/") {
		t.Skipf("the root is on no device: %q %v", device, err)
	}
	_, err = ThisHost.Check(device, 1)
	var r *Refused
	if !errors.As(err, &r) {
		t.Errorf("%s: got %v, want a refusal", device, err)
	}
}

// The path names another disk by the time it is opened: nothing is written to that one.
func TestAnotherDiskIsRefused(t *testing.T) {
	one, _ := loop(t, 4<<20)
	other, backing := loop(t, 4<<20)
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.Symlink(one, path); err != nil {
		t.Fatal(err)
	}
	d, err := ThisHost.Check(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(path), os.Symlink(other, path)); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(backing)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ThisHost.OpenDevice(d)
	wantRefusal(t, err, "is another disk than a moment ago")
	if after, err := os.ReadFile(backing); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the other disk has changed: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.Symlink(one, path)); err != nil {
		t.Fatal(err)
	}
	target, err := ThisHost.OpenDevice(d)
	if err != nil {
		t.Fatalf("the disk itself: %v", err)
	}
	target.Close()
}
