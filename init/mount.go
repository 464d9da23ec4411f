package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountPoint is one file system that PID 1 mounts before it does anything else.
type mountPoint struct {
	kind     string
	dir      string
	flags    uintptr
	data     string
	presence presence
}

// presence says where a mount belongs.
type presence int

const (
	always    presence = iota
	onMachine          // not in namespaces on another Linux, which has its own
	ifKernel           // as onMachine, if the kernel and the hardware have it
)

const (
	nosuid = unix.MS_NOSUID
	nodev  = unix.MS_NODEV
	noexec = unix.MS_NOEXEC
	ro     = unix.MS_RDONLY
)

// mounts is all that is mounted at boot, in order. Nothing that can be written
// can be executed.
var mounts = []mountPoint{
	{"proc", "/proc", nosuid | nodev | noexec, "", always},
	{"sysfs", "/sys", nosuid | nodev | noexec, "", always},
	{"tmpfs", "/dev", nosuid | noexec, "mode=0755,size=256k,nr_inodes=4k", onMachine}, // see nodes_linux.go
	{"tmpfs", "/run", nosuid | nodev | noexec, "mode=0755,size=64m", always},
	{"tmpfs", "/tmp", nosuid | nodev | noexec, "mode=0700,size=16m", always},
	{"cgroup2", "/sys/fs/cgroup", nosuid | nodev | noexec, "nsdelegate,memory_recursiveprot", always},
	{"securityfs", "/sys/kernel/security", nosuid | nodev | noexec, "", ifKernel},
}

// mountAll mounts what belongs here. What storaged mounts later must appear in
// PID 1's namespace, so / is shared; a daemon's own namespace takes itself out.
func mountAll(native func() bool) error {
	for _, m := range mounts {
		if m.presence != always && native() {
			continue
		}
		err := unix.Mount(m.kind, m.dir, m.kind, m.flags, m.data)
		if m.presence == ifKernel && (errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.dir, err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts below /: %w", err)
	}
	return nil
}

// initialPIDNamespace is the inode of the namespace that the kernel starts with
// (PROC_PID_INIT_INO).
const initialPIDNamespace = 0xEFFFFFFC

// isNative says whether this PID 1 runs in namespaces on another Linux, as tests
// do it, and so must leave alone what belongs to the whole machine. The
// environment asks for it, which anybody who can write the kernel's command line
// could; the namespace's number cannot be asked for.
func isNative() bool {
	if os.Getenv("DACTYL_NATIVE") != "1" {
		return false
	}
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/pid", &st) == nil && st.Ino != initialPIDNamespace
}
