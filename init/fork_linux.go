package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
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

// failure is what the child writes when the kernel refuses a step.
type failure struct{ step, errno uint32 }

// nursery is where a process is born.
type nursery struct {
	cgroup *os.File
	domain *domain // whose PID namespace it is; nil: a new one
}

// domain is one that runs.
type domain struct {
	first int // pidfd of its first process
	own   int // descriptor of PID 1's own PID namespace
}

// startProcess makes a process that walks along p. When it returns, the daemon's program runs, or the
// process has ended and the error names the step. Its pid must be reaped in
// either case; 0 means there was none.
func startProcess(p *program, n nursery) (int, error) {
	report, refused, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer report.Close()
	args := &cloneArgs{
		flags:      unix.CLONE_INTO_CGROUP,
		exitSignal: uint64(unix.SIGCHLD),
		cgroup:     uint64(n.cgroup.Fd()),
	}
	if n.domain == nil {
		args.flags |= unix.CLONE_NEWPID
	}
	high, err := aboveAll(int(refused.Fd()))
	refused.Close()
	if err != nil {
		return 0, err
	}
	syscall.ForkLock.Lock()
	pid, errno := forkAndWalk(args, n.domain, p.steps, uintptr(high))
	syscall.ForkLock.Unlock()
	unix.Close(high)
	runtime.KeepAlive(p)
	if errno != 0 {
		return 0, fmt.Errorf("make a process: %w", errno)
	}
	var f failure
	switch _, err := io.ReadFull(report, (*[unsafe.Sizeof(f)]byte)(unsafe.Pointer(&f))[:]); err {
	case io.EOF: // closed by execve
		return int(pid), nil
	case nil:
		return int(pid), fmt.Errorf("%s: %w", p.steps[f.step].what, syscall.Errno(f.errno))
	default:
		return int(pid), fmt.Errorf("died before its program: %w", err)
	}
}

// forkAndWalk forks; the child is born into the PID namespace of the domain, if
// there is one. For that moment this thread's children belong there: the runtime
// must not make a thread now, and does not, between its hooks. The child makes the steps and never returns. It runs on a
// copy of a stack whose other threads are gone: it must not allocate, grow the
// stack, or call anything that might.
//
//go:noinline
//go:norace
//go:nocheckptr
func forkAndWalk(args *cloneArgs, d *domain, steps []syscallStep, report uintptr) (uintptr, syscall.Errno) {
	var f failure
	runtimeBeforeFork()
	if d != nil {
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETNS, uintptr(d.first), unix.CLONE_NEWPID, 0); errno != 0 {
			runtimeAfterFork()
			return 0, errno
		}
	}
	pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno != 0 || pid != 0 {
		var back syscall.Errno
		if d != nil {
			_, _, back = syscall.RawSyscall(unix.SYS_SETNS, uintptr(d.own), unix.CLONE_NEWPID, 0)
		}
		runtimeAfterFork()
		if back != 0 {
			panic("BUG: the way back to PID 1's namespace: " + back.Error())
		}
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
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

// firstHigh is above every descriptor that a daemon can be given, so that
// putting them in place overwrites none that is still needed.
const firstHigh = 512

// aboveAll duplicates a descriptor to firstHigh or above.
func aboveAll(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstHigh)
}
