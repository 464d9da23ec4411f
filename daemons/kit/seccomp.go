package kit

import (
	"encoding/binary"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filter sees struct seccomp_data: the call's number, the architecture, the
// instruction pointer and six arguments of eight bytes, little-endian.
const (
	offNumber = 0
	offArch   = 4
	offArg0   = 16
)

// x32Bit marks calls of the x32 ABI, which look like amd64's to the arch check.
const x32Bit = 0x40000000

var (
	allow   = bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	deny    = bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)} // logged by the kernel
	unknown = bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
	kill    = bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS}
)

// filterSelf puts the base set and the named ones into force on all threads.
func filterSelf(names []string) error {
	rules, err := ownRules(names, uint32(syscall.Getpid()))
	if err != nil {
		return err
	}
	raw, err := bpf.Assemble(filter(rules))
	if err != nil {
		return err
	}
	// A bpf.RawInstruction is a struct sock_filter.
	prog := unix.SockFprog{Len: uint16(len(raw)), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0]))}

	runtime.LockOSThread() // no_new_privs is the thread's; the filter's TSYNC gives it to the others
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	thread, _, errno := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_LOG, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(raw)
	switch {
	case errno != 0:
		return fmt.Errorf("install the filter: %w", errno)
	case thread != 0:
		return fmt.Errorf("install the filter: thread %d has another one", thread)
	}
	return nil
}

// ForeignFilter compiles the base set, what programs need besides that others wrote,
// and the named sets, as the kernel takes it: instructions of 8 bytes. PID 1 installs
// it before it starts such a program.
func ForeignFilter(names []string) ([]byte, error) {
	rules, err := foreignRules(names)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(filter(rules))
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, 8*len(raw))
	for _, i := range raw {
		out = binary.NativeEndian.AppendUint16(out, i.Op)
		out = append(out, i.Jt, i.Jf)
		out = binary.NativeEndian.AppendUint32(out, i.K)
	}
	return out, nil
}

// filter compiles rules. It is a binary search over the numbers, and calls that need
// no look at their arguments are decided by the number alone, so the kernel remembers
// the answer when the filter is installed and does not run it for them at all.
func filter(rules map[uint32]rule) []bpf.Instruction {
	head := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AUDIT_ARCH_X86_64, SkipTrue: 1},
		kill,
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32Bit, SkipFalse: 1},
		kill,
	}
	return append(head, search(branches(rules))...)
}

// rule says when a call is allowed: if the tests of any of its cases all hold.
// One without cases is always allowed.
type rule []all
type all []test

// test compares the low half of an argument; every argument tested here is an
// int or a word of flags of which the kernel takes no more.
type test struct {
	arg  uint32
	mask uint32
	want uint32
}

func is(arg, want uint32) test { return test{arg, ^uint32(0), want} }

// ownRules are those of the daemon with this pid: the base set and the named ones.
func ownRules(names []string, pid uint32) (map[uint32]rule, error) {
	chosen, err := named(names)
	if err != nil {
		return nil, err
	}
	itself := set{tested: []tested{ // the runtime's own signals between its threads
		{unix.SYS_TGKILL, rule{{is(0, pid)}}},
		{unix.SYS_KILL, rule{{is(0, pid)}}},
	}}
	return join(append(chosen, base, itself), never), nil
}

// foreignRules are those of a program that others wrote.
func foreignRules(names []string) (map[uint32]rule, error) {
	chosen, err := named(names)
	if err != nil {
		return nil, err
	}
	itself := []uint32{unix.SYS_EXECVE} // its root has nothing to start but itself
	return join(append(chosen, base, program), slices.DeleteFunc(slices.Clone(never), func(nr uint32) bool {
		return slices.Contains(itself, nr)
	})), nil
}

func named(names []string) ([]set, error) {
	var chosen []set
	for _, name := range names {
		i := slices.IndexFunc(sets, func(s set) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no set of system calls is named %q", name)
		}
		chosen = append(chosen, sets[i])
	}
	return chosen, nil
}

// join makes one set of rules of several: what one of them allows is allowed.
func join(sets []set, never []uint32) map[uint32]rule {
	rules := map[uint32]rule{}
	for _, s := range sets {
		for _, nr := range s.calls {
			rules[nr] = nil
		}
		for _, t := range s.tested {
			if have, ok := rules[t.nr]; !ok || have != nil {
				rules[t.nr] = append(have, t.when...)
			}
		}
	}
	for nr := range rules {
		if slices.Contains(never, nr) {
			panic("BUG: a set allows what nobody may call")
		}
	}
	return rules
}

// branch is what to do for numbers from one up to the next branch's.
type branch struct {
	from uint32
	code []bpf.Instruction
}

// branches returns rules in the order of their numbers, with the gaps denied.
func branches(rules map[uint32]rule) []branch {
	out := []branch{{0, []bpf.Instruction{deny}}}
	put := func(from uint32, code []bpf.Instruction) {
		last := &out[len(out)-1]
		switch {
		case last.from == from:
			last.code = code
		case !slices.Equal(last.code, code) || len(code) > 1:
			out = append(out, branch{from, code})
		}
	}
	codes := map[uint32][]bpf.Instruction{
		unix.SYS_CLONE3: {unknown}, // its flags are in memory, out of sight: whoever tries it falls back to clone
	}
	for nr, r := range rules {
		codes[nr] = r.code()
	}
	for _, nr := range slices.Sorted(maps.Keys(codes)) {
		put(nr, codes[nr])
		put(nr+1, []bpf.Instruction{deny})
	}
	return out
}

func (r rule) code() []bpf.Instruction {
	if len(r) == 0 {
		return []bpf.Instruction{allow}
	}
	var out []bpf.Instruction
	for _, tests := range r {
		out = append(out, tests.code()...)
	}
	return append(out, deny)
}

// code allows if all tests hold, else runs on behind itself.
func (a all) code() []bpf.Instruction {
	out := []bpf.Instruction{allow}
	for _, t := range slices.Backward(a) {
		step := []bpf.Instruction{bpf.LoadAbsolute{Off: offArg0 + 8*t.arg, Size: 4}}
		if t.mask != ^uint32(0) {
			step = append(step, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: t.mask})
		}
		step = append(step, bpf.JumpIf{Cond: bpf.JumpEqual, Val: t.want, SkipFalse: uint8(len(out))})
		out = append(step, out...)
	}
	return out
}

// search finds the branch of the number that is loaded. A conditional jump
// reaches 255 instructions; over longer halves it jumps in two steps.
func search(b []branch) []bpf.Instruction {
	if len(b) == 1 {
		return b[0].code
	}
	mid := len(b) / 2
	below, above := search(b[:mid]), search(b[mid:])
	split := []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: b[mid].from, SkipTrue: uint8(len(below))}}
	if len(below) > 255 {
		split = []bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: b[mid].from, SkipFalse: 1},
			bpf.Jump{Skip: uint32(len(below))},
		}
	}
	return slices.Concat(split, below, above)
}
