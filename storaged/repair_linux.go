package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// e2fsckPath is Debian's e2fsck, statically linked; [run] in daemon.toml names it.
const e2fsckPath = "/lib/dactyl/e2fsck"

const (
	// checkTime is for all repairs of one start. PID 1 ends a daemon that is not ready
	// after a minute, and then storaged would never mount /var; the rest of its start takes
	// seconds, also from a slow stick. The API does not wait for it: /state is mounted
	// first, and PID 1 lets the other daemons wait for 15 s.
	checkTime = 40 * time.Second
	// checkMemory is what e2fsck may write to (RLIMIT_DATA), three quarters of [limits] memory.
	// Without it the kernel would kill storaged too, again after each restart. On 512 GiB
	// e2fsck needs 48 MiB for 150,000 files and less than 64 MiB for 500,000. RLIMIT_AS
	// would not do: glibc reserves 64 MiB for each of e2fsck's threads.
	checkMemory = 96 << 20
	// checkStack is the stack of each of these threads, of which there are as many as
	// processors. 8 MiB, the kernel's default, count as written to.
	checkStack = 1 << 20
	// reportLines is how much of e2fsck's output goes to the log.
	reportLines = 50
)

// exit codes of e2fsck, bits that are added up: e2fsck(8).
const (
	fsckCorrected = 1
	fsckReboot    = 2 // of a mounted file system
	fsckRemain    = 4
)

// checker runs e2fsck. It works until storaged seals itself: from then on neither Landlock
// nor seccomp lets it start a program.
type checker struct {
	program string
	log     *slog.Logger
	start   func() (context.Context, context.CancelFunc)
	until   context.Context // of the first repair and all that follow
	memory  uint64
}

func newChecker(ctx context.Context, program string, log *slog.Logger) *checker {
	c := &checker{program: program, log: log, memory: checkMemory}
	c.start = func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, checkTime) }
	return c
}

// repair has e2fsck repair everything (-y). With -f it looks at a file system that says it is
// clean. There is no first attempt with -p: -p deletes the journal of a file system with
// wrong group descriptors before it gives up, and then -y does not use the descriptors'
// backup, so that all files are lost.
func (m *machine) repair(device string) error {
	c := m.check
	if c.until == nil {
		c.until, _ = c.start() // it ends with setup's context, or after checkTime
	}
	code, err := c.run(m.node(device))
	switch {
	case err != nil:
		return err
	case code&^(fsckCorrected|fsckReboot) == 0:
		return nil
	case code == fsckRemain, code == fsckRemain|fsckCorrected:
		return fmt.Errorf("%w: errors remain after e2fsck -y (exit code %d)", errBeyondRepair, code)
	}
	return fmt.Errorf("e2fsck -y: exit code %d", code)
}

// run returns e2fsck's exit code. An error says that it came to no result.
func (c *checker) run(device string) (int, error) {
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread gives up its ambient capabilities, so e2fsck has none, and ends with
		// this function: it is not unlocked. It lives as long as e2fsck, whose death
		// signal is that of the thread.
		runtime.LockOSThread()
		code, err := c.runHere(device)
		done <- result{code, err}
	}()
	r := <-done
	return r.code, r.err
}

func (c *checker) runHere(device string) (int, error) {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("give up ambient capabilities: %w", err)
	}
	var said report
	cmd := exec.CommandContext(c.until, c.program, "-f", "-y", "-E", "no_optimize_extents", device)
	cmd.Env = []string{
		"EXT2FS_NO_MTAB_OK=1", // there is no /proc to look for mounts in; O_EXCL refuses a mounted device
		"MALLOC_ARENA_MAX=1",  // its threads share one heap
	}
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := startWithStack(cmd)
	if err == nil {
		// Until then it has no limit. It takes its memory by and by, while it reads the disk.
		limit := unix.Rlimit{Cur: c.memory, Max: c.memory}
		if err = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_DATA, &limit, nil); err != nil {
			cmd.Process.Kill()
		}
		err = errors.Join(err, cmd.Wait())
	}
	said.tell(c.log, device)
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0, nil
	case errors.Is(c.until.Err(), context.DeadlineExceeded):
		return 0, fmt.Errorf("e2fsck -y: not finished after %v", checkTime)
	case exited && exit.Exited():
		return exit.ExitCode(), nil
	}
	return 0, fmt.Errorf("e2fsck -y: %w", err)
}

// startWithStack starts a program whose threads have stacks of checkStack. It must inherit
// that: glibc reads the limit when the program starts.
func startWithStack(cmd *exec.Cmd) error {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &before); err != nil {
		return fmt.Errorf("get the limit of stacks: %w", err)
	}
	limit := unix.Rlimit{Cur: min(checkStack, before.Max), Max: before.Max}
	if err := unix.Setrlimit(unix.RLIMIT_STACK, &limit); err != nil {
		return fmt.Errorf("limit stacks: %w", err)
	}
	return errors.Join(cmd.Start(), unix.Setrlimit(unix.RLIMIT_STACK, &before))
}

// report is the output of e2fsck: its first lines, and how many there are.
type report struct {
	lines []string
	part  []byte // of a line
	more  int
}

// maxLine bounds what is kept of one line.
const maxLine = 256

func (r *report) Write(b []byte) (int, error) {
	n := len(b)
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		r.part = append(r.part, line[:min(len(line), max(0, maxLine-len(r.part)))]...)
		if !whole {
			return n, nil
		}
		if text := strings.TrimSpace(string(r.part)); text != "" && len(r.lines) < reportLines {
			r.lines = append(r.lines, text)
		} else if text != "" {
			r.more++
		}
		r.part, b = r.part[:0], rest
	}
}

func (r *report) tell(log *slog.Logger, device string) {
	r.Write([]byte("\n"))
	for _, line := range r.lines {
		log.Warn("e2fsck", "device", device, "says", line)
	}
	if r.more > 0 {
		log.Warn("e2fsck", "device", device, "lines left out", r.more)
	}
}
