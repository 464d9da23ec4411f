package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The runtime's own hooks around a fork, which package syscall uses. They block
// signals and make any attempt to grow the stack in the child a crash.

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

//go:linkname runtimeAfterForkInChild syscall.runtime_AfterForkInChild
func runtimeAfterForkInChild()

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// failure is what a process writes that is being made when the kernel refuses a step.
type failure struct{ step, errno uint32 }

const failureSize = int(unsafe.Sizeof(failure{}))

// started is called with the pid of each process that startProcess makes for a domain as
// soon as there is one, so that it can be killed while its program is not reached yet. The
// callee calls ended when it has reaped the process.
type started func(pid int, ended func())

// startProcess makes a process in a cgroup that walks along the steps of b. When it returns,
// the program runs, or the error names the step that was refused; then the process has ended,
// or is to be killed. Its pid must be reaped in either case; 0 means that there was none.
//
// The kernel writes the pid of a domain's member to member, which is in memberPages.
func startProcess(b blueprint, cgroup *os.File, member *int32, started started) (int, error) {
	r, refused, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	b.report, err = aboveAll(int(refused.Fd()))
	refused.Close()
	if err != nil {
		return 0, err
	}
	b.memberPID = uintptr(unsafe.Pointer(member))
	p := programFor(b)
	args := &cloneArgs{flags: unix.CLONE_INTO_CGROUP, exitSignal: uint64(unix.SIGCHLD), cgroup: uint64(cgroup.Fd())}
	if b.place != joinsDomain {
		args.flags |= unix.CLONE_NEWPID
	}
	syscall.ForkLock.Lock()
	pid, errno := forkAndWalk(args, p.steps, uintptr(b.report))
	syscall.ForkLock.Unlock()
	unix.Close(b.report)
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, fmt.Errorf("make a process: %w", errno)
	}
	w := &waiter{program: p, report: r, first: int(pid), member: member}
	if b.place == joinsDomain {
		w.started = started
		started(w.first, w.wake)
	}
	err = w.wait()
	return w.pid(), err
}

// waiter waits until the program of a new process runs.
//
// What comes over the report pipe of a domain's member may have been written by the domain's
// root, which can take the descriptor from the member. The member's pid does not come that
// way: the kernel writes it to a page that the member does not have.
type waiter struct {
	program *program
	report  *os.File
	started started // nil for a process that no other can stop on its way
	first   int     // pid of the process that PID 1 made
	member  *int32  // pid of the one that this process made in a domain; 0 before; nil for none
	told    bool    // started has been called for member
}

// pid is that of the process that runs the program, or would have.
func (w *waiter) pid() int {
	if w.member == nil {
		return w.first
	}
	if pid := atomic.LoadInt32(w.member); pid != 0 {
		return int(pid)
	}
	return w.first
}

// wake interrupts the read of the report: one of the processes has been reaped.
func (w *waiter) wake() { w.report.SetReadDeadline(time.Unix(1, 0)) }

func (w *waiter) wait() error {
	for {
		var f failure
		_, err := io.ReadFull(w.report, (*[failureSize]byte)(unsafe.Pointer(&f))[:])
		switch {
		case err == nil:
			return w.program.refused(f)
		case errors.Is(err, os.ErrDeadlineExceeded) && w.told:
			return w.last()
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.woken()
		case err == io.EOF && (w.started == nil || w.pid() != w.first): // closed by execve
			return nil
		default:
			return errDiedEarly
		}
	}
}

var errDiedEarly = errors.New("died before its program")

// woken goes on after the end of the first process: it has made the member, or has failed and
// left a report or the end of the file.
func (w *waiter) woken() {
	w.report.SetReadDeadline(time.Time{})
	if pid := w.pid(); pid != w.first {
		w.told = true
		w.started(pid, w.wake)
	}
}

// last returns what a member that has ended left in the pipe, which others may hold open.
func (w *waiter) last() error {
	w.report.SetReadDeadline(time.Time{})
	raw, err := w.report.SyscallConn()
	if err != nil {
		return err
	}
	var f failure
	var n int
	err = raw.Read(func(fd uintptr) bool {
		n, _ = unix.Read(int(fd), (*[failureSize]byte)(unsafe.Pointer(&f))[:])
		return true
	})
	switch {
	case err != nil:
		return err
	case n == failureSize:
		return w.program.refused(f)
	case n == 0: // it was closed by execve
		return nil
	}
	return errDiedEarly
}

// refused names the step of a failure, which need not be true.
func (p *program) refused(f failure) error {
	if int(f.step) >= len(p.steps) {
		return fmt.Errorf("its report names step %d of %d", f.step, len(p.steps))
	}
	return fmt.Errorf("%s: %w", p.steps[f.step].what, syscall.Errno(f.errno))
}

// forkAndWalk forks. The child makes the steps and never returns: at a step that forks again,
// the parent ends and the child goes on. It runs on a copy of a stack whose other threads are
// gone: it must not allocate, grow the stack, or call anything that might.
//
//go:noinline
//go:norace
//go:nocheckptr
func forkAndWalk(args *cloneArgs, steps []syscallStep, report uintptr) (uintptr, syscall.Errno) {
	var f failure
	runtimeBeforeFork()
	pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno != 0 || pid != 0 {
		runtimeAfterFork()
		return pid, errno
	}
	runtimeAfterForkInChild()
	var last uintptr
	for i := range steps {
		s := &steps[i]
		if s.args[0] == lastResult {
			s.args[0] = last
		}
		last, _, errno = syscall.RawSyscall6(s.number, s.args[0], s.args[1], s.args[2], s.args[3], s.args[4], s.args[5])
		if errno != 0 {
			f = failure{uint32(i), uint32(errno)}
			syscall.RawSyscall(unix.SYS_WRITE, report, uintptr(unsafe.Pointer(&f)), unsafe.Sizeof(f))
			break
		}
		if s.number == unix.SYS_CLONE3 && last != 0 {
			break // the child goes on
		}
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

// memberPages is memory that PID 1 shares with the processes that it makes. The kernel
// writes the pid of a domain's member there before the member's first instruction. A process
// that makes a member keeps all of it from the member, whose memory the domain's root can
// write: otherwise that root could choose the pids that PID 1 kills.
type memberPages struct {
	memory []byte
	free   chan *int32
}

func newMemberPages() (*memberPages, error) {
	memory, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("share memory with new processes: %w", err)
	}
	const each = int(unsafe.Sizeof(int32(0)))
	m := &memberPages{memory, make(chan *int32, len(memory)/each)}
	for at := 0; at < len(memory); at += each {
		m.free <- (*int32)(unsafe.Pointer(&memory[at]))
	}
	return m, nil
}

// take returns a place for a pid, to be given back with give.
func (m *memberPages) take() *int32 {
	place := <-m.free
	atomic.StoreInt32(place, 0)
	return place
}

func (m *memberPages) give(place *int32) { m.free <- place }

// firstHigh is above every descriptor that a daemon can be given, so that
// putting them in place overwrites none that is still needed.
const firstHigh = 512

// aboveAll duplicates a descriptor to firstHigh or above.
func aboveAll(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstHigh)
}
