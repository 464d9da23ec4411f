package kernel

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBoot boots the kernel with the hardening command line from a SquashFS whose
// only program is testdata/guest. A failure means that something this kernel
// refuses is needed, or that something it promises is not there. It never builds
// a kernel: without a finished one in the cache it is skipped.
func TestBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	image := cachedImage(t)
	dir := t.TempDir()
	root := guestRoot(t, dir)
	disk := guestDisk(t, dir)

	// A guest without hardware help on a busy machine: 3 s when alone.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-device", "virtio-rng-pci",
		"-kernel", image,
		"-append", "root=/dev/vda ro console=ttyS0 panic=-1 "+CommandLine(),
		"-drive", "if=virtio,format=raw,readonly=on,file="+root,
		"-drive", "if=virtio,format=raw,file="+disk)
	out, err := cmd.CombinedOutput()
	text := strings.ReplaceAll(string(out), "\r", "")
	if err != nil {
		t.Fatalf("qemu: %v\n%s", err, text)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "FAIL ") {
			t.Error(line)
		}
		if strings.HasPrefix(line, "uptime ") {
			t.Logf("first program after %s s", line[len("uptime "):])
		}
	}
	if !strings.Contains(text, "\ndone\n") {
		t.Error("the guest did not finish")
	}
	if t.Failed() || os.Getenv("DACTYL_KERNEL_LOG") != "" {
		t.Log(text)
	}
}

func cachedImage(t *testing.T) string {
	for _, tool := range []string{"qemu-system-x86_64", "mksquashfs", "mkfs.ext4"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	w, err := openWorkshop(t.Context(), "", io.Discard)
	if err != nil {
		t.Skip(err)
	}
	r, err := w.finished()
	if err != nil {
		t.Skip("no kernel in the cache; make one with go run ./buildkit/cmd/kernel")
	}
	return r.Image
}

// guestRoot is a SquashFS with the guest, the sysctls and empty mount points.
func guestRoot(t *testing.T, dir string) string {
	tree := filepath.Join(dir, "root")
	for _, d := range []string{"dev", "proc", "sys", "run"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "sysctls"), []byte(RenderSysctls()), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(tree, "init"), "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	must(t, build)
	image := filepath.Join(dir, "root.squashfs")
	must(t, exec.Command("mksquashfs", tree, image, "-comp", "zstd", "-all-root", "-quiet", "-no-progress"))
	return image
}

// guestDisk has an ext4 of 16 MiB behind its first MiB.
func guestDisk(t *testing.T, dir string) string {
	path := filepath.Join(dir, "disk")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 32<<20); err != nil {
		t.Fatal(err)
	}
	must(t, exec.Command("mkfs.ext4", "-q", "-F", "-E", "offset=1048576", path, "16M"))
	return path
}

func must(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, bytes.TrimSpace(out))
	}
}
