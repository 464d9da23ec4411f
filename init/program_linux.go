package main

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// program is the list of system calls that a new process makes between fork and
// its daemon's first instruction. PID 1 writes it down, the forked child walks
// along it: there is nothing in it to decide.
type program struct {
	steps []syscallStep
	keep  []any // what steps point to; the list itself holds only numbers
}

// syscallStep is one system call.
type syscallStep struct {
	number uintptr
	args   [6]uintptr
	what   string // for errors and tests
}

// lastResult as an argument stands for what the step before returned.
const lastResult = ^uintptr(0) - 4242

func (p *program) add(what string, number uintptr, args ...uintptr) {
	s := syscallStep{number: number, what: what}
	copy(s.args[:], args)
	p.steps = append(p.steps, s)
}

// text returns the address of a string as the kernel wants it.
func (p *program) text(s string) uintptr {
	b := append([]byte(s), 0)
	p.keep = append(p.keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// list returns the address of an array of strings that ends with nil.
func (p *program) list(all []string) uintptr {
	array := make([]uintptr, len(all)+1)
	for i, s := range all {
		array[i] = p.text(s)
	}
	p.keep = append(p.keep, array)
	return uintptr(unsafe.Pointer(&array[0]))
}

// address keeps v and returns where it is.
func address[T any](p *program, v *T) uintptr {
	p.keep = append(p.keep, v)
	return uintptr(unsafe.Pointer(v))
}

// String lists the steps, for tests.
func (p *program) String() string {
	var b strings.Builder
	for _, s := range p.steps {
		fmt.Fprintln(&b, s.what)
	}
	return b.String()
}

// blueprint is all that a process is made from.
type blueprint struct {
	path      string // of the program, in the daemon's root
	args, env []string
	user      int
	userNS    bool
	hostNet   bool
	rights    capabilitySet // that it keeps
	own       capabilitySet // PID 1's
	lastRight int           // the kernel's highest capability
	oomScore  string        // empty: leave it
	files     uint64        // RLIMIT_NOFILE
	threads   bool          // no RLIMIT_NPROC: pids.max bounds it
	filter    []byte        // seccomp, for a program that does not seal itself
	place     place
	leaf      int     // in a domain: cgroup.procs of the process's leaf
	first     int     // of joinsDomain: pidfd of the domain's first process
	memberPID uintptr // of joinsDomain: address of the member's pid
	shared    []byte  // of joinsDomain: what that address is in
	report    int     // where failures are written

	proc   int      // descriptor of PID 1's /proc
	root   int      // descriptor of the root that was built, attached nowhere
	mounts []attach // to attach in it
	stdio  []int    // descriptors that become 0, 1, 2 …
}

// place says whose namespaces a process runs in.
type place int

const (
	onItsOwn place = iota
	makesDomain
	joinsDomain
)

// attach is a mount that was made beforehand and its place in the daemon's root.
type attach struct {
	fd int
	at string // relative to the root
}

const oldRoot = "/tmp" // where the new root is attached until it is the root; any directory would do

// programFor writes down how a process gets from being a copy of PID 1 to being
// the daemon. The order matters: mounts while it is still root, then the user,
// then the capabilities that made all this possible.
//
// A member of a domain takes two processes. From its first moment a process in the domain's
// PID namespace can be stopped and read by the domain's root. So the first process stays in
// PID 1's PID namespace and in a cgroup that the domain does not see. It enters the domain's
// other namespaces, closes what the program does not get, and gives up all rights that the
// program does not get. Only then does it make the second, in the domain's PID namespace.
func programFor(b blueprint) *program {
	p := new(program)
	p.limits(b)
	switch b.place {
	case onItsOwn:
		p.namespaces(b)
		p.changeRoot(b)
		p.become(b)
		p.renounce(b)
	case makesDomain:
		p.makeDomain(b)
		p.changeRoot(b)
		p.mountDomain()
		p.bound(b)
	case joinsDomain:
		p.joinDomain(b)
		p.becomeMember(b)
		p.add("execve "+b.path, unix.SYS_EXECVE, p.text(b.path), p.list(b.args), p.list(b.env))
		return p
	}
	p.descriptors(b)
	p.seal(b)
	p.add("execve "+b.path, unix.SYS_EXECVE, p.text(b.path), p.list(b.args), p.list(b.env))
	return p
}

func (p *program) limits(b blueprint) {
	if b.place != joinsDomain {
		p.add("setsid", unix.SYS_SETSID)
	}
	if b.place == onItsOwn {
		p.add("umask 077", unix.SYS_UMASK, 0o077)
	} else { // what they make is for pods, too
		p.add("umask 022", unix.SYS_UMASK, 0o022)
	}
	if b.oomScore != "" {
		p.writeProc(b, "self/oom_score_adj", b.oomScore)
	}
	for _, l := range []struct {
		name     string
		resource uintptr
		value    uint64
	}{{"core", unix.RLIMIT_CORE, 0}, {"nofile", unix.RLIMIT_NOFILE, b.files}} {
		limit := &unix.Rlimit{Cur: l.value, Max: l.value}
		p.add(fmt.Sprintf("limit %s %d", l.name, l.value), unix.SYS_PRLIMIT64, 0, l.resource, address(p, limit))
	}
	if b.threads {
		// The kernel counts threads by user, across user namespaces, and a pod may run as
		// the user of a daemon: a limit would let it keep the daemon from making threads.
		limit := &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		p.add("no limit nproc", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NPROC, address(p, limit))
	}
}

func (p *program) namespaces(b blueprint) {
	flags, names := uintptr(unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS|unix.CLONE_NEWCGROUP), "mnt ipc uts cgroup"
	if !b.hostNet {
		flags, names = flags|unix.CLONE_NEWNET, names+" net"
	}
	p.add("unshare "+names, unix.SYS_UNSHARE, flags)
}

// makeDomain makes the namespaces of a domain. The cgroup namespace begins where
// the process is, and only then does the process go to a leaf of its own.
func (p *program) makeDomain(b blueprint) {
	p.add("unshare mnt ipc cgroup", unix.SYS_UNSHARE, unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWCGROUP)
	p.add("go to its cgroup", unix.SYS_WRITE, uintptr(b.leaf), p.text("0"), 1)
}

// mountDomain mounts what shows the namespaces, and shares all mounts among the
// domain's programs and, if these want it, with pods.
func (p *program) mountDomain() {
	for _, m := range domainMounts {
		p.add("mount "+m.at, unix.SYS_MOUNT, p.text(m.kind), p.text(m.at), p.text(m.kind), m.flags, 0)
	}
	p.add("shared /", unix.SYS_MOUNT, 0, p.text("/"), 0, unix.MS_REC|unix.MS_SHARED)
}

// joinDomain enters the namespaces of a domain. Its PID namespace becomes that of the next
// child.
func (p *program) joinDomain(b blueprint) {
	p.add("enter mnt ipc cgroup, pid for the member", unix.SYS_SETNS, uintptr(b.first), unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWCGROUP|unix.CLONE_NEWPID)
	p.add("chdir /", unix.SYS_CHDIR, p.text("/"))
}

// becomeMember leaves what the program gets and makes the process that executes it.
//
// The member goes to its leaf by a descriptor of cgroup.procs that PID 1 opened: the kernel
// asks for the rights and the cgroup namespace of the opener. It is not born in the leaf:
// for that, this process would need to be in PID 1's cgroup namespace and to hold a
// directory of PID 1's cgroups, and the member would have both.
func (p *program) becomeMember(b blueprint) {
	p.bound(b)
	for to, from := range b.stdio {
		p.add(fmt.Sprintf("descriptor %d", to), unix.SYS_DUP3, uintptr(from), uintptr(to), 0)
	}
	leaf := uintptr(len(b.stdio))
	p.add("descriptor of its cgroup.procs", unix.SYS_DUP3, uintptr(b.leaf), leaf, unix.O_CLOEXEC)
	report := uintptr(b.report)
	p.add("close the rest below the report", unix.SYS_CLOSE_RANGE, leaf+1, report-1, 0)
	p.add("close the rest above the report", unix.SYS_CLOSE_RANGE, report+1, ^uintptr(0)>>32, 0)
	rights := b.rights & b.own // PID 1 on another Linux may not have them all
	p.capset("the granted", rights, rights, 0)
	p.prctl("not dumpable", unix.PR_SET_DUMPABLE, 0, 0)
	p.add("keep shared memory from the member", unix.SYS_MADVISE, uintptr(unsafe.Pointer(unsafe.SliceData(b.shared))), uintptr(len(b.shared)), unix.MADV_DONTFORK)
	p.add("make the member", unix.SYS_CLONE3, address(p, &cloneArgs{
		flags: unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID, parentTID: uint64(b.memberPID),
	}), unsafe.Sizeof(cloneArgs{}))
	p.add("setsid", unix.SYS_SETSID)
	p.add("go to its cgroup", unix.SYS_WRITE, leaf, p.text("0"), 1)
}

// changeRoot makes the daemon's root the only thing there is. Mounts that were
// cloned before keep their own propagation; only the copy of PID 1's tree is
// cut off, and then dropped.
func (p *program) changeRoot(b blueprint) {
	p.add("private /", unix.SYS_MOUNT, 0, p.text("/"), 0, unix.MS_REC|unix.MS_PRIVATE)
	p.moveMount("the root", b.root, at(unix.AT_FDCWD), oldRoot)
	p.add("fchdir the root", unix.SYS_FCHDIR, uintptr(b.root))
	for _, m := range b.mounts {
		p.moveMount("/"+m.at, m.fd, at(unix.AT_FDCWD), m.at)
	}
	p.add("pivot_root", unix.SYS_PIVOT_ROOT, p.text("."), p.text("."))
	p.add("umount the old root", unix.SYS_UMOUNT2, p.text("."), unix.MNT_DETACH)
	p.add("chdir /", unix.SYS_CHDIR, p.text("/"))
}

func (p *program) moveMount(what string, fd int, dir uintptr, path string) {
	p.add("attach "+what, unix.SYS_MOVE_MOUNT, uintptr(fd), p.text(""), dir, p.text(path), unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// become changes the user. In a user namespace of its own, the user is mapped to
// itself and nobody else exists.
func (p *program) become(b blueprint) {
	id := uintptr(b.user)
	p.prctl("keep capabilities", unix.PR_SET_KEEPCAPS, 1, 0)
	p.add("setgroups none", unix.SYS_SETGROUPS, 0, 0)
	p.add(fmt.Sprintf("setresgid %d", b.user), unix.SYS_SETRESGID, id, id, id)
	p.add(fmt.Sprintf("setresuid %d", b.user), unix.SYS_SETRESUID, id, id, id)
	if !b.userNS {
		p.capset("all of PID 1's", b.own, b.own, 0)
		return
	}
	// Without this the files in /proc/self belong to root.
	p.prctl("dumpable", unix.PR_SET_DUMPABLE, 1, 0)
	p.add("unshare user", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	p.writeProc(b, "self/setgroups", "deny")
	p.writeProc(b, "self/uid_map", fmt.Sprintf("%d %d 1", b.user, b.user))
	p.writeProc(b, "self/gid_map", fmt.Sprintf("%d %d 1", b.user, b.user))
}

// securebits leaves uid 0 without magic and capabilities as they are, for good.
const securebits = 1<<0 | 1<<1 | // NOROOT, locked
	1<<2 | 1<<3 | // NO_SETUID_FIXUP, locked
	1<<5 | // KEEP_CAPS off, locked
	1<<6 | 1<<7 // NO_CAP_AMBIENT_RAISE, locked

// bound takes what was not granted out of reach for good. What is left is what
// uid 0 has after execve.
func (p *program) bound(b blueprint) {
	for n := 0; n <= b.lastRight; n++ {
		if b.rights&(1<<n) == 0 {
			p.prctl(fmt.Sprintf("drop %s from the bounding set", (capabilitySet(1) << n).names()[0]), unix.PR_CAPBSET_DROP, uintptr(n), 0)
		}
	}
}

// renounce leaves just the rights that were granted, and no way to more.
func (p *program) renounce(b blueprint) {
	p.bound(b)
	setpcap := capabilitySet(1 << unix.CAP_SETPCAP)
	p.capset("the granted, and SETPCAP for the next steps", b.rights|setpcap, b.rights|setpcap, b.rights)
	for n := 0; n <= b.lastRight; n++ {
		if b.rights&(1<<n) != 0 {
			p.prctl(fmt.Sprintf("raise ambient %s", (capabilitySet(1) << n).names()[0]), unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n))
		}
	}
	p.prctl("lock securebits", unix.PR_SET_SECUREBITS, securebits, 0)
	p.capset("the granted", b.rights, b.rights, b.rights)
	p.prctl("no new privileges", unix.PR_SET_NO_NEW_PRIVS, 1, 0)
}

// descriptors puts b.stdio in place and marks all others to be closed.
func (p *program) descriptors(b blueprint) {
	for to, from := range b.stdio {
		p.add(fmt.Sprintf("descriptor %d", to), unix.SYS_DUP3, uintptr(from), uintptr(to), 0)
	}
	p.add("close the rest", unix.SYS_CLOSE_RANGE, uintptr(len(b.stdio)), ^uintptr(0)>>32, unix.CLOSE_RANGE_CLOEXEC)
}

// seal limits the system calls of a program that would not do it itself. From here
// on only execve is left.
func (p *program) seal(b blueprint) {
	if len(b.filter) == 0 {
		return
	}
	p.keep = append(p.keep, b.filter)
	fprog := &unix.SockFprog{
		Len:    uint16(len(b.filter) / int(unsafe.Sizeof(unix.SockFilter{}))),
		Filter: (*unix.SockFilter)(unsafe.Pointer(&b.filter[0])),
	}
	p.add("seccomp", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_LOG, address(p, fprog))
}

func (p *program) prctl(what string, option, a, b uintptr) {
	p.add(what, unix.SYS_PRCTL, option, a, b, 0, 0)
}

func (p *program) capset(what string, permitted, effective, inheritable capabilitySet) {
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{
		{Effective: uint32(effective), Permitted: uint32(permitted), Inheritable: uint32(inheritable)},
		{Effective: uint32(effective >> 32), Permitted: uint32(permitted >> 32), Inheritable: uint32(inheritable >> 32)},
	}
	p.add("capabilities: "+what, unix.SYS_CAPSET, address(p, head), address(p, data))
}

// writeProc writes a file of the process's own in PID 1's /proc, which it can
// reach by its descriptor after the change of root.
func (p *program) writeProc(b blueprint, path, text string) {
	p.add("open "+path, unix.SYS_OPENAT, uintptr(b.proc), p.text(path), unix.O_WRONLY|unix.O_CLOEXEC)
	p.add(fmt.Sprintf("write %q to %s", text, path), unix.SYS_WRITE, lastResult, p.text(text), uintptr(len(text)))
}

// at is a directory descriptor as the kernel takes it; AT_FDCWD is negative.
func at(fd int) uintptr { return uintptr(fd) }
