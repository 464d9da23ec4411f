package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
)

type attempt struct {
	name string
	try  func(context.Context) error // nil: it got out
}

// attempts are all ways out. A system call in here is made as raw as an attacker
// would make it, not through what kit leaves to a daemon.
func attempts(binary string, peer ipc.Conn) []attempt {
	return []attempt{
		{"execve of its own binary", func(context.Context) error { return unix.Exec(binary, []string{binary}, nil) }},
		{"execve from memory", func(context.Context) error { return execFromMemory() }},
		{"fork", func(context.Context) error { return raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD)) }},
		{"ptrace", func(context.Context) error { return raw(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1) }},
		{"read another process's memory", func(context.Context) error { return raw(unix.SYS_PROCESS_VM_READV, 1) }},
		{"kill another process", func(context.Context) error { return raw(unix.SYS_KILL, 2, uintptr(unix.SIGKILL)) }},
		{"executable memory", func(context.Context) error {
			return raw(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0))
		}},
		{"new user namespace", func(context.Context) error { return unix.Unshare(unix.CLONE_NEWUSER) }},
		{"mount", func(context.Context) error { return unix.Mount("none", "/dev", "tmpfs", 0, "") }},
		{"new mount API", func(context.Context) error { return raw(unix.SYS_FSOPEN, pointer("tmpfs\x00")) }},
		{"chroot", func(context.Context) error { return unix.Chroot("/dev") }},
		{"setuid 0", func(context.Context) error { return raw(unix.SYS_SETUID, 0) }},
		{"capset", func(context.Context) error { return raw(unix.SYS_CAPSET) }},
		{"load BPF", func(context.Context) error { return raw(unix.SYS_BPF, 5) }},
		{"io_uring", func(context.Context) error { return raw(unix.SYS_IO_URING_SETUP, 8) }},
		{"kernel keys", func(context.Context) error { return raw(unix.SYS_KEYCTL, 0, ^uintptr(2)) }},
		{"type into a terminal", func(context.Context) error { return raw(unix.SYS_IOCTL, 0, unix.TIOCSTI, pointer("x")) }},
		{"reboot", func(context.Context) error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_ON) }},
		{"set the clock", func(context.Context) error { return raw(unix.SYS_CLOCK_SETTIME, 0) }},
		{"network socket", func(context.Context) error { return socket(unix.AF_INET, unix.SOCK_STREAM) }},
		{"netlink socket", func(context.Context) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) }},
		{"raw packets", func(context.Context) error { return socket(unix.AF_PACKET, unix.SOCK_RAW) }},
		{"crypto socket", func(context.Context) error { return socket(unix.AF_ALG, unix.SOCK_SEQPACKET) }},
		{"another daemon's socket", func(context.Context) error { return connect("/run/ipc/trust") }},
		{"PID 1's socket", func(ctx context.Context) error {
			_, err := machine.NewClient(ipc.NewPeer("machine", "/run/ipc/machine")).Reboot(ctx, &machine.RebootRequest{})
			return err
		}},
		{"abstract socket", func(context.Context) error { return connect("@dactyl") }},
		{"a method that [calls] does not name", func(ctx context.Context) error {
			_, err := network.NewClient(peer).ListRoutes(ctx, &network.ListRoutesRequest{})
			return err
		}},
		{"trustd's keys", func(context.Context) error { return read("/state/trustd/*") }},
		{"the machine's files", func(context.Context) error { return read("/etc/dactyl/*") }},
		{"kernel's messages", func(context.Context) error { return read("/dev/kmsg") }},
		{"other processes' files", func(context.Context) error { return read("/proc/1/environ") }},
		{"raw disk", func(context.Context) error { return read("/dev/sd*") }},
		{"make a node for the raw disk", func(context.Context) error {
			return unix.Mknodat(unix.AT_FDCWD, "/dev/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0)))
		}},
		{"write into its root", func(context.Context) error { return os.WriteFile("/left-behind", nil, 0o600) }},
		{"change its binary", func(context.Context) error {
			f, err := os.OpenFile(binary, os.O_WRONLY, 0)
			if err == nil {
				f.Close()
			}
			return err
		}},
		{"leave through ..", func(context.Context) error { return read("/../../../../etc/os-release") }},
	}
}

func raw(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

func pointer(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) }

func socket(family, kind int) error {
	fd, err := unix.Socket(family, kind, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func connect(path string) error {
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return err
}

// read opens whatever matches pattern.
func read(pattern string) error {
	paths, _ := filepath.Glob(pattern)
	if len(paths) == 0 {
		return errMissing
	}
	var last error
	for _, p := range paths {
		f, err := os.Open(p)
		if err == nil {
			f.Close()
			return nil
		}
		last = err
	}
	return last
}

// execFromMemory goes on without a file in memory if it gets none: the call that
// would run it has to be refused by itself.
func execFromMemory() error {
	fd, _ := unix.MemfdCreate("program", 0)
	return raw(unix.SYS_EXECVEAT, uintptr(fd), pointer("\x00"), 0, 0, unix.AT_EMPTY_PATH)
}
