package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

const (
	// backlog is how many callers may wait while their daemon is away.
	backlog = 4096
	// logPipeBytes holds what daemons say while logd is away.
	logPipeBytes = 256 << 10
)

// door is a listening unix socket of one caller to one service. The file stays
// when the door is shut, so that its caller is refused and not told that there
// is nothing.
type door struct {
	caller abi.Caller
	user   uint32 // caller's
	fd     int    // listening end; shutFD while shut
}

const shutFD = -1

func (d *door) path() string {
	return filepath.Join(abi.SocketDir, d.caller.Name, d.caller.Service)
}

// open binds the socket. It appears under its name only when it can be
// connected to, in place of a shut one.
func (d *door) open() error {
	if d.fd != shutFD {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socket for %s: %w", d.path(), err)
	}
	if err := d.bind(fd); err != nil {
		unix.Close(fd)
		return fmt.Errorf("bind %s: %w", d.path(), err)
	}
	d.fd = fd
	return nil
}

func (d *door) bind(fd int) error {
	path, coming := d.path(), d.path()+".new"
	if err := makeDir(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	if err := os.Remove(coming); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: coming}); err != nil {
		return err
	}
	if err := os.Chown(coming, int(d.user), int(d.user)); err != nil {
		return err
	}
	if err := os.Chmod(coming, 0o600); err != nil {
		return err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return err
	}
	return os.Rename(coming, path)
}

// shut refuses callers, those who wait included. A daemon that still has the
// socket would keep it open, so only one without a process is shut out.
func (d *door) shut() {
	if d.fd != shutFD {
		unix.Close(d.fd)
		d.fd = shutFD
	}
}

// bindListen binds a network socket of [listen].
func bindListen(l abi.Listen) (int, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	listener, err := config.Listen(context.Background(), l.Network, l.Address)
	if err != nil {
		return 0, fmt.Errorf("listen on %s:%s: %w", l.Network, l.Address, err)
	}
	defer listener.Close()
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return 0, fmt.Errorf("listen on %s:%s: only TCP can be inherited", l.Network, l.Address)
	}
	f, err := tcp.File()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

// logPipe is the log of one daemon. PID 1 keeps both ends, so that lines survive
// the daemon as well as logd.
type logPipe struct{ read, write int }

// newLogPipe makes a pipe that no writer ever waits for.
func newLogPipe() (logPipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return logPipe{}, fmt.Errorf("log pipe: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, logPipeBytes); err != nil {
		return logPipe{}, fmt.Errorf("size of a log pipe: %w", err)
	}
	return logPipe{fds[0], fds[1]}, nil
}

// makeDir makes a directory of root's and those above it.
func makeDir(dir string, mode os.FileMode) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}
