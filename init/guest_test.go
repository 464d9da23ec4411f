package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/buildkit/kernel"
	"github.com/dactyl-os/dactyl/daemons/abi"
)

// TestDomainOnOurKernel boots PID 1 on the machine's kernel with testdata/guest,
// which asks for a domain. A failure means that this kernel, locked down and with
// cgroups of version 2, refuses what pods need, or does not refuse what they must
// not have; other tests run on the kernel that happens to be there.
func TestDomainOnOurKernel(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	image := cachedKernel(t)
	root := filepath.Join(t.TempDir(), "root.squashfs")
	stageGuest(t, root)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-device", "virtio-rng-pci",
		"-kernel", image, "-append", "root=/dev/vda ro console=ttyS0 panic=-1 "+kernel.CommandLine(kernel.AutoPTI),
		"-drive", "if=virtio,format=raw,readonly=on,file="+root).CombinedOutput()
	text := strings.ReplaceAll(string(out), "\r", "")
	if err != nil {
		t.Fatalf("qemu: %v\n%s", err, text)
	}
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "FAIL "):
			t.Error(strings.TrimSpace(line))
		case strings.HasPrefix(line, "ok "):
			t.Log(strings.TrimSpace(line))
		}
	}
	if !strings.Contains(text, "\ndone\n") {
		t.Error("the guest did not finish")
	}
	if t.Failed() {
		t.Log(text)
	}
}

// cachedKernel never builds one.
func cachedKernel(t *testing.T) string {
	for _, tool := range []string{"qemu-system-x86_64", "mksquashfs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	newest, made := "", time.Time{}
	images, _ := filepath.Glob(filepath.Join(cache, "dactyl", "kernel", "*", "bzImage"))
	for _, path := range images {
		if st, err := os.Stat(path); err == nil && st.ModTime().After(made) {
			newest, made = path, st.ModTime()
		}
	}
	if newest == "" {
		t.Skip("no kernel in the cache; make one with go run ./buildkit/cmd/kernel")
	}
	return newest
}

// guestSystem is that of domainSystem, and a program of others without a domain,
// with testdata/guest as the one who asks for them. They meet in /run: the machine
// has no disk.
func guestSystem() *abi.System {
	server := foreign("server")
	server.Foreign.Filter = sockFilter(unix.SYS_SETTIMEOFDAY)
	s := domainSystem(server)
	for i := range s.Daemons {
		d := &s.Daemons[i]
		switch d.Name {
		case "pods":
			// vda is the root's disk: a node in the domain's /dev must not help.
			d.Devices, d.Write = []string{"/dev/kmsg", "/dev/vda"}, []string{"/run/foreign"}
		case "server":
			d.Write, d.Foreign.Args = []string{"/run/server"}, []string{"/run/server/server"}
		case "runtime":
			d.Limits, d.Foreign.Args = abi.Limits{}, []string{"/run/foreign/runtime"}
		case "agent":
			d.Foreign.Args = []string{"/run/foreign/agent"}
		case "tester":
			d.Devices, d.Read = []string{"/dev/ttyS0"}, []string{"/run"}
			d.Capabilities, d.UserNS = []string{"DAC_OVERRIDE"}, false
		}
	}
	return s
}

func stageGuest(t *testing.T, image string) {
	w := &world{t: t, root: t.TempDir()}
	system := guestSystem()
	w.stage(system)
	build(t, filepath.Join(w.root, "lib/dactyl/tester"), "./testdata/guest")
	if err := os.WriteFile(filepath.Join(w.root, abi.SysctlsPath), []byte(kernel.RenderSysctls()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mksquashfs", w.root, image, "-comp", "zstd", "-all-root", "-quiet", "-no-progress").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
