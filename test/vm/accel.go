package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	kvm = "kvm"
	// What is translated of a node that has run a dozen pods fills the 1024 MiB that QEMU
	// has for it; then all of it is thrown away. 2047 is the most that it takes.
	tcg = "tcg,thread=multi,tb-size=2047"

	// probeTimeout is how long the firmware may take to say its first word: about a
	// second where KVM works. Where /dev/kvm only exists, a guest hangs for ever, or
	// stops at an instruction that KVM cannot run there.
	probeTimeout = 10 * time.Second
)

// Accelerator returns QEMU's -accel for this machine.
func Accelerator(ctx context.Context) (string, error) {
	works, err := kvmWorks(ctx)
	if err != nil || !works {
		return tcg, err
	}
	return kvm, nil
}

// kvmWorks asks a tiny guest, and remembers its answer in the user's cache, by the
// kernel's release.
func kvmWorks(ctx context.Context) (bool, error) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return false, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return false, err
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return false, err
	}
	answer := filepath.Join(cache, "dactyl", "kvm-"+strings.TrimSpace(string(release)))
	if known, err := os.ReadFile(answer); err == nil {
		return strconv.ParseBool(string(known))
	}
	works := bootsUnderKVM(ctx)
	if err := os.MkdirAll(filepath.Dir(answer), 0o755); err != nil {
		return false, err
	}
	return works, os.WriteFile(answer, strconv.AppendBool(nil, works), 0o644)
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
