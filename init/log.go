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
type journal struct{ pipe int }

func (j journal) info(format string, args ...any) { j.write("INFO", format, args) }
func (j journal) warn(format string, args ...any) { j.write("WARN", format, args) }

func (j journal) write(level, format string, args []any) {
	line := level + " " + oneLine(fmt.Sprintf(format, args...)) + "\n"
	_, _ = unix.Write(j.pipe, []byte(line))
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

// shout writes to the kernel's log, as important as the kernel's own errors.
func shout(format string, args ...any) {
	fmt.Fprintf(kernelLog(), "<3>init: "+format+"\n", args...)
}

// captureOutput turns PID 1's standard output and error, which libraries write
// to, to its log, and the last words of a crash to the kernel's.
func captureOutput(pipe int) error {
	if err := debug.SetCrashOutput(kernelLog(), debug.CrashOptions{}); err != nil {
		return fmt.Errorf("turn the crash report to the kernel's log: %w", err)
	}
	for fd := 1; fd <= 2; fd++ {
		if err := unix.Dup3(pipe, fd, 0); err != nil {
			return fmt.Errorf("turn descriptor %d to the log: %w", fd, err)
		}
	}
	return nil
}
