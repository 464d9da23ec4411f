package kit

import (
	"slices"

	"golang.org/x/sys/unix"
)

// set is a named set of system calls: those allowed whatever their arguments,
// and those allowed for some.
type set struct {
	name   string
	calls  []uint32
	tested []tested
}

type tested struct {
	nr   uint32
	when rule
}

// Sets lists the names that [syscalls] in a daemon.toml may use.
func Sets() []string {
	var names []string
	for _, s := range sets {
		names = append(names, s.name)
	}
	return names
}

const (
	every = ^uint32(0)

	// threadFlags are exactly those with which Go's runtime starts a thread.
	threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD | unix.CLONE_SETTLS

	prSetVMA  = 0x53564d41 // names the runtime's memory, for smaps
	archSetFS = 0x1002
)

// ioctls that x/sys/unix does not name.
const (
	ext4ResizeFS = 0x40086610
	siocEthtool  = 0x8946
	rtcReadTime  = 0x80247009
	rtcSetTime   = 0x4024700a
)

// base is what every daemon may call.
var base = set{
	calls: []uint32{
		// Memory. mmap and mprotect are below; mremap changes no protection.
		unix.SYS_BRK, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MSYNC,
		// Threads, signals, time.
		unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_RESTART_SYSCALL,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
		unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
		unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME,
		unix.SYS_GETRANDOM, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRUSAGE,
		unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID,
		// Descriptors.
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_READV, unix.SYS_WRITEV,
		unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_COPY_FILE_RANGE, unix.SYS_SENDFILE, unix.SYS_SPLICE,
		unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_FCNTL, unix.SYS_LSEEK, unix.SYS_PIPE2, unix.SYS_EVENTFD2,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_WAIT, unix.SYS_POLL, unix.SYS_PPOLL,
		// Files in its own root, where mounts, modes and Landlock say what may be done.
		unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_FSTAT, unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS,
		unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINKAT, unix.SYS_GETDENTS64, unix.SYS_GETCWD,
		unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FADVISE64, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FLOCK,
		unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_SYMLINKAT,
		unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_UTIMENSAT, unix.SYS_UMASK,
		unix.SYS_INOTIFY_INIT1, unix.SYS_INOTIFY_ADD_WATCH, unix.SYS_INOTIFY_RM_WATCH,
		// Sockets that exist; making one is below. PID 1 binds and listens.
		unix.SYS_CONNECT, unix.SYS_ACCEPT4, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
		unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
	},
	tested: []tested{
		{unix.SYS_CLONE, rule{{{0, every, threadFlags}}}},
		{unix.SYS_MMAP, rule{{{2, unix.PROT_EXEC, 0}}}},
		{unix.SYS_MPROTECT, rule{{{2, unix.PROT_EXEC, 0}}}},
		{unix.SYS_PRCTL, rule{{{0, every, prSetVMA}}}},
		{unix.SYS_PRLIMIT64, rule{{{0, every, 0}}}}, // its own
		{unix.SYS_SOCKET, rule{{{0, every, unix.AF_UNIX}}}},
		{unix.SYS_SOCKETPAIR, rule{{{0, every, unix.AF_UNIX}}}},
		{unix.SYS_IOCTL, rule{{{1, every, unix.TCGETS}}, {{1, every, unix.TIOCGWINSZ}}}}, // is it a terminal, how large
	},
}

// internet is TCP and UDP.
var internet = rule{
	{{0, every, unix.AF_INET}, {2, every, 0}},
	{{0, every, unix.AF_INET}, {2, every, unix.IPPROTO_TCP}},
	{{0, every, unix.AF_INET}, {2, every, unix.IPPROTO_UDP}},
	{{0, every, unix.AF_INET6}, {2, every, 0}},
	{{0, every, unix.AF_INET6}, {2, every, unix.IPPROTO_TCP}},
	{{0, every, unix.AF_INET6}, {2, every, unix.IPPROTO_UDP}},
}

// program is what programs need besides that others wrote and that serve networks:
// Kubernetes' control plane and CoreDNS were watched while they ran.
var program = set{
	calls: []uint32{
		unix.SYS_EXECVE, // PID 1 installs the filter before it starts the program
		unix.SYS_TGKILL, // the runtime's own signals; nobody else has its uid
		// Ports, of its own choice: PID 1 knows nothing of them.
		unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_RECVMMSG, unix.SYS_SENDMMSG,
	},
	tested: []tested{
		{unix.SYS_ARCH_PRCTL, rule{{{0, every, archSetFS}}}}, // the first thread's local memory
		{unix.SYS_SOCKET, slices.Concat(internet, rule{
			{{0, every, unix.AF_NETLINK}, {2, every, unix.NETLINK_ROUTE}}, // which addresses the machine has
		})},
	},
}

// sets are what a daemon.toml can name.
var sets = []set{
	{
		// TCP, UDP and ICMP. Landlock still refuses to bind a TCP port.
		name:  "network",
		calls: []uint32{unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_RECVMMSG, unix.SYS_SENDMMSG},
		tested: []tested{{unix.SYS_SOCKET, slices.Concat(internet, rule{
			{{0, every, unix.AF_INET}, {2, every, unix.IPPROTO_ICMP}},
			{{0, every, unix.AF_INET6}, {2, every, unix.IPPROTO_ICMPV6}},
		})}},
	},
	{
		// Where a socket that is open already listens. Landlock still refuses TCP ports.
		name:  "bind",
		calls: []uint32{unix.SYS_BIND},
	},
	{
		// What a link's driver is called, asked on a socket that is open already.
		name:   "ethtool",
		tested: []tested{{unix.SYS_IOCTL, rule{{{1, every, siocEthtool}}}}},
	},
	{
		name: "mount",
		calls: []uint32{
			unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
			unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_SYNC, unix.SYS_SYNCFS,
			unix.SYS_FCHOWN, unix.SYS_FCHOWNAT,
		},
	},
	{
		// Growing an ext4 while it is mounted.
		name:   "ext4",
		tested: []tested{{unix.SYS_IOCTL, rule{{{1, every, ext4ResizeFS}}}}},
	},
	{
		// The system's clock and the one on the board.
		name:   "clock",
		calls:  []uint32{unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX},
		tested: []tested{{unix.SYS_IOCTL, rule{{{1, every, rtcReadTime}}, {{1, every, rtcSetTime}}}}},
	},
	{
		name:  "syslog",
		calls: []uint32{unix.SYS_SYSLOG},
	},
}

// never are calls that no set may hold: starting programs, reaching into other
// processes, loading code into the kernel, and the kernel's largest attack
// surfaces. A set that does is a mistake that no daemon starts with.
var never = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_CLONE3,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT, unix.SYS_SWAPON,
	unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS, unix.SYS_CAPSET,
	unix.SYS_MKNOD, unix.SYS_MKNODAT, unix.SYS_PKEY_MPROTECT, unix.SYS_PERSONALITY, unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET, unix.SYS_SHMAT,
	unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_SECCOMP,
}
