package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// writeWithin is how long a text may take: 4 KiB at 9600 baud are four seconds.
const writeWithin = 5 * time.Second

// tty is a terminal that is written to and never read.
type tty struct{ f *os.File }

// openTerminal opens a terminal without waiting for a modem's carrier and without
// making it anybody's controlling terminal. The node of a serial port is there
// even when the port is not; then it has no settings to tell.
func openTerminal(path string) (terminal, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("read the settings of %s: %w", path, err)
	}
	return tty{os.NewFile(uintptr(fd), path)}, nil
}

func (t tty) Write(b []byte) (int, error) {
	t.f.SetWriteDeadline(time.Now().Add(writeWithin)) // a line held by flow control must not hold us
	return t.f.Write(b)
}
