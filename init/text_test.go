package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRootHash(t *testing.T) {
	const digest = "6e1b2e3f"
	for cmdline, want := range map[string]string{
		`console=ttyS0 dm-mod.create="root,,,ro,0 2048 verity 1 PARTUUID=a PARTUUID=a 4096 4096 256 256 sha256 ` + digest + ` 00ff" root=/dev/dm-0`: digest,
		`dm-mod.create="root,,,ro,0 2048 verity 1 a a 4096 4096 256 256 sha256 ` + digest + `"`:                                                     digest,
		`root=/dev/vda quiet`:                       "",
		`dm-mod.create="root,,,ro,0 2048 linear a"`: "",
		``: "",
	} {
		if got := rootHash(cmdline); got != want {
			t.Errorf("%q in %s", got, cmdline)
		}
	}
}

func TestHostnames(t *testing.T) {
	for name, want := range map[string]bool{
		"edge-1": true, "a": true, "1": true, "edge.example.org": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "a..b": false, "a.": false, "a_b": false, "a b": false, "é": false,
		strings.Repeat("a", 64): false, strings.Repeat("a", 40) + "." + strings.Repeat("b", 40): false,
	} {
		if isHostname(name) != want {
			t.Errorf("%q", name)
		}
	}
}

func TestVolumesComeDeepestFirst(t *testing.T) {
	const mountinfo = `1 0 254:0 / / ro - squashfs /dev/dm-0 ro
2 1 0:5 / /proc rw - proc proc rw
3 1 8:1 / /boot ro - vfat /dev/sda1 ro
4 1 8:4 / /state rw - ext4 /dev/sda4 rw
5 1 8:5 / /var rw - ext4 /dev/sda5 rw
6 5 0:9 / /var/lib/x rw - tmpfs tmpfs rw
7 1 0:9 / /variant rw - tmpfs tmpfs rw
`
	if got := volumes(mountinfo); !slices.Equal(got, []string{"/var/lib/x", "/var", "/state", "/boot"}) {
		t.Error(got)
	}
}

func TestLandlockOf(t *testing.T) {
	for line, want := range map[string]int{
		"landlock=6\n": 6, "seccomp=1 landlock=4\n": 4, "\n": 0, "landlock=\n": 0, "landlock=-1\n": 0, "landlock=99999999999\n": 0, "xlandlock=3\n": 0,
	} {
		if got := landlockOf([]byte(line)); got != want {
			t.Errorf("%q: %d", line, got)
		}
	}
}

func TestApplySysctls(t *testing.T) {
	dir := t.TempDir()
	proc := filepath.Join(dir, "sys")
	if err := os.MkdirAll(filepath.Join(proc, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(proc, "kernel", "panic")
	file := filepath.Join(dir, "sysctls")
	for path, text := range map[string]string{key: "0", file: "# comment\n\nkernel.panic = 10\nkernel.none=1\nnonsense\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if errs := applySysctls(file, proc); len(errs) != 2 {
		t.Errorf("want a missing key and a bad line: %v", errs)
	}
	if got, err := os.ReadFile(key); err != nil || string(got) != "10" {
		t.Errorf("kernel.panic is %s, %v", got, err)
	}
}

func TestLogLinesStayLines(t *testing.T) {
	if got := oneLine("a\nERROR b\x1b[2J\tc"); got != "a?ERROR b?[2J?c" {
		t.Error(got)
	}
}
