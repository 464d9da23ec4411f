package kit

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	testPID = 4711

	verdictAllow   = unix.SECCOMP_RET_ALLOW
	verdictDeny    = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	verdictUnknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	verdictKill    = unix.SECCOMP_RET_KILL_PROCESS & 0xffffffff
)

// machine runs a filter as the kernel would.
func machine(t testing.TB, names ...string) func(nr uint32, args ...uint32) uint32 {
	t.Helper()
	rules, err := ownRules(names, testPID)
	if err != nil {
		t.Fatal(err)
	}
	return interpret(t, rules)
}

// foreign runs the filter of a program that others wrote.
func foreign(t testing.TB, names ...string) func(nr uint32, args ...uint32) uint32 {
	t.Helper()
	rules, err := foreignRules(names)
	if err != nil {
		t.Fatal(err)
	}
	return interpret(t, rules)
}

func interpret(t testing.TB, rules map[uint32]rule) func(nr uint32, args ...uint32) uint32 {
	t.Helper()
	program := filter(rules)
	if len(program) > 4096 {
		t.Fatalf("%d instructions: the kernel takes 4096", len(program))
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(nr uint32, args ...uint32) uint32 {
		return verdict(t, vm, nr, unix.AUDIT_ARCH_X86_64, args...)
	}
}

func verdict(t testing.TB, vm *bpf.VM, nr, arch uint32, args ...uint32) uint32 {
	t.Helper()
	data := make([]byte, 64) // the interpreter loads big-endian
	binary.BigEndian.PutUint32(data[offNumber:], nr)
	binary.BigEndian.PutUint32(data[offArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[offArg0+8*i:], a)
	}
	v, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(v)
}

func names(v uint32) string {
	switch v {
	case verdictAllow:
		return "allow"
	case verdictDeny:
		return "deny"
	case verdictUnknown:
		return "unknown"
	}
	return "kill"
}

func TestFilterDecides(t *testing.T) {
	const rx, rw = unix.PROT_READ | unix.PROT_EXEC, unix.PROT_READ | unix.PROT_WRITE
	for _, c := range []struct {
		what string
		set  string // beyond the base set
		nr   uint32
		args []uint32
		want uint32
	}{
		{"read", "", unix.SYS_READ, nil, verdictAllow},
		{"write", "", unix.SYS_WRITE, nil, verdictAllow},
		{"rename", "", unix.SYS_RENAMEAT, nil, verdictAllow},
		{"a program", "", unix.SYS_EXECVE, nil, verdictDeny},
		{"a program from a descriptor", "mount", unix.SYS_EXECVEAT, nil, verdictDeny},
		{"another's memory", "", unix.SYS_PTRACE, nil, verdictDeny},
		{"a thread", "", unix.SYS_CLONE, []uint32{threadFlags}, verdictAllow},
		{"a process", "", unix.SYS_CLONE, []uint32{uint32(unix.SIGCHLD)}, verdictDeny},
		{"a thread with a user namespace", "", unix.SYS_CLONE, []uint32{threadFlags | unix.CLONE_NEWUSER}, verdictDeny},
		{"clone3", "", unix.SYS_CLONE3, nil, verdictUnknown},
		{"memory", "", unix.SYS_MMAP, []uint32{0, 4096, rw}, verdictAllow},
		{"executable memory", "", unix.SYS_MMAP, []uint32{0, 4096, rx}, verdictDeny},
		{"memory made executable", "", unix.SYS_MPROTECT, []uint32{0, 4096, rx}, verdictDeny},
		{"memory made executable by key", "", unix.SYS_PKEY_MPROTECT, []uint32{0, 4096, rx}, verdictDeny},
		{"own signal", "", unix.SYS_TGKILL, []uint32{testPID, 1, 23}, verdictAllow},
		{"another's signal", "", unix.SYS_TGKILL, []uint32{testPID + 1, 1, 9}, verdictDeny},
		{"everybody's signal", "", unix.SYS_KILL, []uint32{^uint32(0), 9}, verdictDeny},
		{"a unix socket", "", unix.SYS_SOCKET, []uint32{unix.AF_UNIX, unix.SOCK_STREAM}, verdictAllow},
		{"a TCP socket", "", unix.SYS_SOCKET, []uint32{unix.AF_INET, unix.SOCK_STREAM}, verdictDeny},
		{"a TCP socket", "network", unix.SYS_SOCKET, []uint32{unix.AF_INET, unix.SOCK_STREAM}, verdictAllow},
		{"an ICMPv6 socket", "network", unix.SYS_SOCKET, []uint32{unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6}, verdictAllow},
		{"an SCTP socket", "network", unix.SYS_SOCKET, []uint32{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, verdictDeny},
		{"an MPTCP socket, which Landlock does not see", "network", unix.SYS_SOCKET, []uint32{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, verdictDeny},
		{"a netlink socket", "network", unix.SYS_SOCKET, []uint32{unix.AF_NETLINK, unix.SOCK_RAW}, verdictDeny},
		{"a route socket", "ethtool", unix.SYS_SOCKET, []uint32{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, verdictDeny},
		{"a datagram socket", "ethtool", unix.SYS_SOCKET, []uint32{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC}, verdictDeny},
		{"a packet socket", "bind", unix.SYS_SOCKET, []uint32{unix.AF_PACKET, unix.SOCK_RAW}, verdictDeny},
		{"a link's driver", "", unix.SYS_IOCTL, []uint32{1, siocEthtool}, verdictDeny},
		{"a link's driver", "ethtool", unix.SYS_IOCTL, []uint32{1, siocEthtool}, verdictAllow},
		{"a link's name", "ethtool", unix.SYS_IOCTL, []uint32{1, unix.SIOCGIFNAME}, verdictDeny},
		{"a vsock", "network", unix.SYS_SOCKET, []uint32{unix.AF_VSOCK, unix.SOCK_STREAM}, verdictDeny},
		{"bind", "", unix.SYS_BIND, nil, verdictDeny},
		{"bind", "bind", unix.SYS_BIND, nil, verdictAllow},
		{"is it a terminal", "", unix.SYS_IOCTL, []uint32{1, unix.TCGETS}, verdictAllow},
		{"type into a terminal", "", unix.SYS_IOCTL, []uint32{1, unix.TIOCSTI}, verdictDeny},
		{"a partition", "mount", unix.SYS_IOCTL, []uint32{1, unix.BLKPG}, verdictDeny},
		{"a partition", "ext4", unix.SYS_IOCTL, []uint32{1, unix.BLKPG}, verdictDeny},
		{"is it a terminal, with ext4", "ext4", unix.SYS_IOCTL, []uint32{1, unix.TCGETS}, verdictAllow},
		{"grow ext4", "ext4", unix.SYS_IOCTL, []uint32{1, ext4ResizeFS}, verdictAllow},
		{"mount", "", unix.SYS_MOUNT, nil, verdictDeny},
		{"mount", "mount", unix.SYS_MOUNT, nil, verdictAllow},
		{"enter a namespace", "mount", unix.SYS_SETNS, nil, verdictDeny},
		{"set the clock", "", unix.SYS_CLOCK_SETTIME, nil, verdictDeny},
		{"set the clock", "clock", unix.SYS_CLOCK_SETTIME, nil, verdictAllow},
		{"the kernel's log", "syslog", unix.SYS_SYSLOG, nil, verdictAllow},
		{"name memory", "", unix.SYS_PRCTL, []uint32{prSetVMA}, verdictAllow},
		{"be dumpable", "", unix.SYS_PRCTL, []uint32{unix.PR_SET_DUMPABLE}, verdictDeny},
		{"a number beyond all", "", 5000, nil, verdictDeny},
		{"x32", "", x32Bit | unix.SYS_READ, nil, verdictKill},
	} {
		run := machine(t)
		if c.set != "" {
			run = machine(t, c.set)
		}
		if got := run(c.nr, c.args...); got != c.want {
			t.Errorf("%s (call %d, base and %q): %s, want %s", c.what, c.nr, c.set, names(got), names(c.want))
		}
	}
}

// The search must find for every number what the rules say of it, whatever sets are joined.
func TestEveryNumberGetsItsRule(t *testing.T) {
	for _, sets := range [][]string{nil, {"network"}, {"mount", "ext4"}, {"bind", "ethtool", "network"}, Sets()} {
		rules, err := ownRules(sets, testPID)
		if err != nil {
			t.Fatal(err)
		}
		run := machine(t, sets...)
		for nr := range uint32(600) {
			want := verdictDeny
			if r, ok := rules[nr]; ok && len(r) == 0 {
				want = verdictAllow
			} else if ok && holds(r) {
				want = verdictAllow
			}
			if nr == unix.SYS_CLONE3 {
				want = verdictUnknown
			}
			if got := run(nr, make([]uint32, 6)...); got != want {
				t.Errorf("%v: call %d with zeros: %s, want %s", sets, nr, names(got), names(want))
			}
		}
	}
}

// holds says whether a rule allows arguments that are all zero.
func holds(r rule) bool {
	return slices.ContainsFunc(r, func(a all) bool {
		return !slices.ContainsFunc(a, func(t test) bool { return t.want != 0 })
	})
}

func TestNoSetHoldsWhatNobodyMayCall(t *testing.T) {
	run := machine(t, Sets()...)
	for _, nr := range never {
		if got := run(nr); got == verdictAllow {
			t.Errorf("call %d is allowed", nr)
		}
	}
}

// A program that others wrote starts, once, under its filter; all else that nobody
// may call is refused to it too.
func TestForeignFilter(t *testing.T) {
	verdictOf := foreign(t)
	for _, c := range []struct {
		what string
		nr   uint32
		args []uint32
		want uint32
	}{
		{"its own start", unix.SYS_EXECVE, nil, verdictAllow},
		{"a program from a descriptor", unix.SYS_EXECVEAT, nil, verdictDeny},
		{"a process", unix.SYS_CLONE, []uint32{uint32(unix.SIGCHLD)}, verdictDeny},
		{"a thread", unix.SYS_CLONE, []uint32{threadFlags}, verdictAllow},
		{"a signal to one of its threads", unix.SYS_TGKILL, []uint32{testPID, testPID, 23}, verdictAllow},
		{"executable memory", unix.SYS_MMAP, []uint32{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, verdictDeny},
		{"a TCP socket", unix.SYS_SOCKET, []uint32{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP}, verdictAllow},
		{"what addresses there are", unix.SYS_SOCKET, []uint32{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, verdictAllow},
		{"the firewall", unix.SYS_SOCKET, []uint32{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, verdictDeny},
		{"packets", unix.SYS_SOCKET, []uint32{unix.AF_PACKET, unix.SOCK_RAW}, verdictDeny},
		{"a port", unix.SYS_BIND, nil, verdictAllow},
		{"mount", unix.SYS_MOUNT, nil, verdictDeny},
		{"another user", unix.SYS_SETUID, nil, verdictDeny},
	} {
		if got := verdictOf(c.nr, c.args...); got != c.want {
			t.Errorf("%s (call %d): %s, want %s", c.what, c.nr, names(got), names(c.want))
		}
	}
	for _, nr := range never {
		if got := verdictOf(nr); got == verdictAllow && nr != unix.SYS_EXECVE {
			t.Errorf("call %d is allowed", nr)
		}
	}
	text, err := ForeignFilter(nil)
	if err != nil || len(text) == 0 || len(text)%8 != 0 {
		t.Errorf("%d bytes, %v: want instructions of eight", len(text), err)
	}
	if _, err := ForeignFilter([]string{"base"}); err == nil {
		t.Error("a set that cannot be named was accepted")
	}
}

func TestAnotherArchitectureIsKilled(t *testing.T) {
	rules, err := ownRules(nil, testPID)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(filter(rules))
	if err != nil {
		t.Fatal(err)
	}
	if got := verdict(t, vm, unix.SYS_READ, unix.AUDIT_ARCH_I386); got != verdictKill {
		t.Errorf("i386: %s", names(got))
	}
}

func TestUnknownSetIsRefused(t *testing.T) {
	if _, err := ownRules([]string{"networking"}, testPID); err == nil {
		t.Error("a set that does not exist was accepted")
	}
}

// A rare call must not walk hundreds of instructions.
func TestSearchIsShallow(t *testing.T) {
	rules, err := ownRules(Sets(), testPID)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d calls, %d branches, %d instructions", len(rules), len(branches(rules)), len(search(branches(rules))))
	if n := len(branches(rules)); n > 256 {
		t.Errorf("%d branches: more than eight steps to find one", n)
	}
}
