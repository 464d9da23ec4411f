package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// journal is PID 1's own log. Its lines look like every daemon's and go the same
// way: into a pipe that logd reads. A full pipe loses them, since PID 1 waits
// for nobody.
type journal struct {
	pipe int
	echo bool // to standard error too
}

func (j journal) info(format string, args ...any) { j.write("INFO", format, args) }
func (j journal) warn(format string, args ...any) { j.write("WARN", format, args) }

func (j journal) write(level, format string, args []any) {
	line := level + " " + oneLine(fmt.Sprintf(format, args...)) + "\n"
	_, _ = unix.Write(j.pipe, []byte(line))
	if j.echo {
		os.Stderr.WriteString(line)
	}
}

// oneLine keeps text from elsewhere from looking like a line of its own.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// kernelLog is where PID 1 speaks when nobody may be there to listen: before
// logd can be, and when it must give up. The kernel shows it on the console.
func kernelLog() *os.File {
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		return f
	}
	return os.Stderr
}

// shout writes to the kernel's log, as important as the kernel's own errors; where
// that is not ours, to whoever started this.
func shout(format string, args ...any) {
	if isNative() {
		fmt.Fprintf(os.Stderr, "init: "+format+"\n", args...)
		return
	}
	fmt.Fprintf(kernelLog(), "<3>init: "+format+"\n", args...)
}

// captureOutput leaves the console to consoled: the last words of a crash go to
// the kernel's log. What libraries print goes nowhere; it is about callers'
// connections, and they could fill any log with it.
func captureOutput(null int) error {
	if err := debug.SetCrashOutput(kernelLog(), debug.CrashOptions{}); err != nil {
		return fmt.Errorf("turn the crash report to the kernel's log: %w", err)
	}
	for fd := range 3 {
		if err := unix.Dup3(null, fd, 0); err != nil {
			return fmt.Errorf("silence descriptor %d: %w", fd, err)
		}
	}
	return nil
}
