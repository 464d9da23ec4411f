package vm

import (
	"context"
	"errors"
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

	// probeTimeout is how long the tiny guest may take: it needs a fraction of a
	// second where KVM works, and hangs for ever where /dev/kvm only exists.
	probeTimeout = 10 * time.Second
)

// bootSector ends QEMU through its debug-exit port: mov al,0x10; out 0xf4,al; hlt.
var bootSector = append(append([]byte{0xb0, 0x10, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd}, make([]byte, 503)...), 0x55, 0xaa)

// bootedCode is QEMU's exit code after bootSector wrote 0x10 to the port.
const bootedCode = 0x10<<1 | 1

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

func bootsUnderKVM(ctx context.Context) bool {
	dir, err := os.MkdirTemp("", "dactyl-kvm-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "boot")
	if os.WriteFile(disk, bootSector, 0o644) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err = exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", kvm, "-display", "none", "-nodefaults", "-no-reboot",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=0x01", "-drive", "format=raw,file="+disk).Run()
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == bootedCode
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
