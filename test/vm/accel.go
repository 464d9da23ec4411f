package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	kvm = "kvm"
	tcg = "tcg,thread=multi"

	// probeTimeout is how long the firmware may take to say its first word: about a
	// second where KVM works. Where /dev/kvm only exists, a guest hangs for ever, or
	// stops at an instruction that KVM cannot run there.
	probeTimeout = 10 * time.Second
)

// Accelerator returns QEMU's -accel for this machine. The answer of the tiny
// guest is remembered in the user's cache, by the kernel's release.
func Accelerator(ctx context.Context) (string, error) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return tcg, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	answer := filepath.Join(cache, "dactyl", "accel-"+strings.TrimSpace(string(release)))
	if known, err := os.ReadFile(answer); err == nil {
		return string(known), nil
	}
	accel := tcg
	if bootsUnderKVM(ctx) {
		accel = kvm
	}
	if err := os.MkdirAll(filepath.Dir(answer), 0o755); err != nil {
		return "", err
	}
	return accel, os.WriteFile(answer, []byte(accel), 0o644)
}

// bootsUnderKVM starts the firmware alone and waits for its first word on the
// serial line. Less would not do: on some hosts a few instructions run well and
// the firmware does not.
func bootsUnderKVM(ctx context.Context) bool {
	code, _, err := firmware()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35", "-accel", kvm, "-cpu", "max", "-m", "256",
		"-nodefaults", "-display", "none", "-serial", "stdio", "-drive", "if=pflash,format=raw,readonly=on,file="+code)
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return false
	}
	defer cmd.Wait()
	defer cancel()
	n, _ := out.Read(make([]byte, 1))
	return n > 0
}

// firmware returns the UEFI code and a template for its variables.
func firmware() (code, vars string, err error) {
	for _, suffix := range []string{"_4M", ""} {
		code, vars = "/usr/share/OVMF/OVMF_CODE"+suffix+".fd", "/usr/share/OVMF/OVMF_VARS"+suffix+".fd"
		if _, err := os.Stat(code); err == nil {
			return code, vars, nil
		}
	}
	return "", "", fmt.Errorf("no UEFI firmware in /usr/share/OVMF: install the package ovmf")
}
