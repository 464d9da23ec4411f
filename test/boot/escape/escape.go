// Scenario escape: a daemon that has been taken over tries every way out that we
// know. All are refused, and those that a wall had to refuse are logged. If it
// fails, a hole in one small daemon is a hole in the machine.
package escape

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/log"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/test/vm"
)

// attempted is what mischiefd must have tried; a list that shrank would pass
// without testing anything.
const attempted = 36

// logged are system calls whose refusal must be in the kernel's log, by number:
// execve, execveat, clone, ptrace, process_vm_readv, kill, mmap, unshare, mount,
// fsopen, chroot, setuid, capset, bpf, io_uring_setup, keyctl, ioctl, reboot,
// clock_settime, socket, mknodat.
var logged = []string{"59", "322", "56", "101", "310", "62", "9", "272", "165", "430", "161", "105", "126", "321", "425", "250", "16", "169", "227", "41", "259"}

// Scenario reads what the kernel has logged since the machine started, so it is one of
// the first on a machine.
func Scenario(t *testing.T, r *vm.Running) {
	ctx := vm.Context(t)

	var results []string
	vm.Eventually(t, func() string {
		results = read(t, r, &log.ReadLogRequest{Daemon: "mischiefd"})
		if !strings.Contains(strings.Join(results, "\n"), "all attempts made") {
			return "mischiefd has not finished:\n" + strings.Join(results, "\n")
		}
		return ""
	})
	refused := 0
	for _, line := range results {
		switch {
		case strings.Contains(line, "SUCCEEDED"):
			t.Error(line)
		case strings.Contains(line, "refused:"):
			refused++
		}
	}
	if refused != attempted {
		t.Errorf("%d attempts were refused, want %d:\n%s", refused, attempted, strings.Join(results, "\n"))
	}

	// What it did not find is there, for those who may.
	for _, path := range []string{"/state/trustd/authority.pem", "/etc/dactyl/system.json", "/proc/1/environ", "/dev/sda"} {
		if _, err := probe.NewClient(r.Admin).ReadFile(ctx, &probe.ReadFileRequest{Path: path}); err != nil {
			t.Errorf("%s is not on the machine, so that nothing was tried: %v", path, err)
		}
	}

	kernel := kernelLog(ctx, t, r)
	for _, nr := range logged {
		if !regexp.MustCompile(`audit: type=1326 .*comm="mischiefd".* syscall=` + nr + ` `).MatchString(kernel) {
			t.Errorf("the kernel's log does not have mischiefd's refused system call %s", nr)
		}
	}
	server := strings.Join(read(t, r, &log.ReadLogRequest{Daemon: "networkd"}), "\n")
	if !regexp.MustCompile(`call refused.*mischiefd.*ListRoutes`).MatchString(server) {
		t.Errorf("networkd's log does not have the refused call:\n%s", server)
	}
}

func read(t *testing.T, r *vm.Running, request *log.ReadLogRequest) []string {
	t.Helper()
	lines, err := log.NewClient(r.Admin).ReadLog(vm.Context(t), request)
	return texts(t, lines, err)
}

func kernelLog(ctx context.Context, t *testing.T, r *vm.Running) string {
	t.Helper()
	lines, err := log.NewClient(r.Admin).ReadKernel(ctx, &log.ReadKernelRequest{})
	return strings.Join(texts(t, lines, err), "\n")
}

func texts(t *testing.T, lines ipc.Receiver[*log.Line], err error) []string {
	t.Helper()
	var out []string
	for err == nil {
		var l *log.Line
		if l, err = lines.Recv(); err == nil {
			out = append(out, l.Text)
		}
	}
	if err.Error() != "EOF" {
		t.Fatal(err)
	}
	return out
}
