package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const (
	ro     = syscall.MS_RDONLY
	bind   = syscall.MS_BIND
	redo   = syscall.MS_REMOUNT
	rec    = syscall.MS_REC
	shared = syscall.MS_SHARED
)

// What the kubelet and others write, and what the kernel is asked for.
func TestCalls(t *testing.T) {
	for args, want := range map[string][]call{
		"-t tmpfs -o size=1048576,noswap tmpfs /v":    {{"tmpfs", "/v", "tmpfs", 0, "size=1048576,noswap"}},
		"-t tmpfs -o noexec,nosuid,mode=700 tmpfs /v": {{"tmpfs", "/v", "tmpfs", syscall.MS_NOEXEC | syscall.MS_NOSUID, "mode=700"}},
		"--no-canonicalize -o bind /proc/1/fd/9 /v":   {{"/proc/1/fd/9", "/v", "", bind, ""}},
		"-o bind /a /v":                   {{"/a", "/v", "", bind, ""}},
		"-o bind,ro /a /v":                {{"/a", "/v", "", bind, ""}, {"", "/v", "", ro | redo | bind, ""}},
		"-o rbind,rshared /a /v":          {{"/a", "/v", "", bind | rec, ""}, {"", "/v", "", shared | rec, ""}},
		"-o bind,remount,ro,nosuid /a /v": {{"/a", "/v", "", bind | redo | ro | syscall.MS_NOSUID, ""}},
		"-o remount,size=2m /v":           {{"", "/v", "", redo, "size=2m"}},
		"-o rshared /v":                   {{"", "/v", "", shared | rec, ""}},
		"-t ext4 -o defaults,_netdev,ro,rw,discard /dev/a /v": {{"/dev/a", "/v", "ext4", 0, "discard"}},
		"-t ext4 -o rw -o ro /dev/a /v":                       {{"/dev/a", "/v", "ext4", ro, ""}},
	} {
		c, err := parse(strings.Fields(args))
		if err != nil || !slices.Equal(c.calls(), want) {
			t.Errorf("mount %s: %+v, %v; want %+v", args, c.calls(), err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for args, says := range map[string]string{
		"":                           "mount [",
		"/v":                         "mount [",
		"-o bind /v":                 "mount [",
		"-o bind,rshared /v":         "mount [",
		"-t":                         "mount [",
		"--make-rshared /v":          "mount [",
		"-t tmpfs a b c":             "mount [",
		"/dev/a /v":                  "which filesystem",
		"-o rshared /dev/a /v":       "which filesystem",
		"-t ext4 -o loop /image /v":  "no loop devices",
		"-t ext4 -o offset=1 /i /v ": "no loop devices",
	} {
		if err := mount(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("mount %s: %v; want %q", args, err, says)
		}
	}
	for _, args := range []string{"", "-x /v", "/a /b"} {
		if err := unmount(strings.Fields(args)); !errors.Is(err, errUsage) {
			t.Errorf("umount %s: %v", args, err)
		}
	}
}

// apart gives the test a mount namespace of its own, whose mounts nobody else sees.
func apart(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := syscall.Unshare(syscall.CLONE_NEWNS | syscall.CLONE_FS); err != nil {
		t.Skip("no mount namespace to be had: ", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|rec, ""); err != nil {
		t.Fatal(err)
	}
	return t.TempDir()
}

func do(t *testing.T, command func([]string) error, args string) {
	t.Helper()
	if err := command(strings.Fields(args)); err != nil {
		t.Fatalf("%s: %v", args, err)
	}
}

// mounted is the line of mountinfo for the last mount on dir, or "".
func mounted(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for line := range strings.Lines(string(text)) {
		if strings.Fields(line)[4] == dir {
			last = line
		}
	}
	return last
}

// A volume's life, as the kubelet leads it.
func TestKernel(t *testing.T) {
	root := apart(t)
	volume, copied := filepath.Join(root, "volume"), filepath.Join(root, "copied")
	for _, dir := range []string{volume, copied} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	do(t, mount, "-t tmpfs -o size=1m,nosuid tmpfs "+volume)
	if line := mounted(t, volume); !strings.Contains(line, "size=1024k") || !strings.Contains(line, "nosuid") {
		t.Errorf("tmpfs: %q", line)
	}
	do(t, mount, "-o remount,size=2m "+volume)
	if line := mounted(t, volume); !strings.Contains(line, "size=2048k") {
		t.Errorf("resized: %q", line)
	}
	do(t, mount, "--no-canonicalize -o bind "+volume+" "+copied)
	do(t, mount, "-o bind,remount,ro,nosuid "+volume+" "+copied)
	if err := os.WriteFile(filepath.Join(copied, "file"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("wrote to a read-only bind mount: %v", err)
	}
	do(t, mount, "-o rshared "+copied)
	if line := mounted(t, copied); !strings.Contains(line, " shared:") {
		t.Errorf("shared: %q", line)
	}
	busy, err := os.Create(filepath.Join(volume, "open"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unmount([]string{volume}); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("umount of a busy tmpfs: %v", err)
	}
	busy.Close()
	do(t, unmount, "-f "+copied)
	do(t, unmount, volume)
	if err := unmount([]string{volume}); err == nil || !strings.Contains(err.Error(), "not mounted") {
		t.Errorf("umount of a directory: %v", err)
	}
	if err := unmount([]string{filepath.Join(root, "missing")}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("umount of nothing: %v", err)
	}
}
