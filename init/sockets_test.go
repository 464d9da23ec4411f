package main

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// PID 1 binds before any interface is up: a socket of the loopback interface, which
// etcdd has, must be possible all the same.
func TestListenBeforeTheLoopbackIsUp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can have a network of its own")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its network
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), loopback(unix.IFF_UP), loopback(0)); err != nil {
			done <- err
			return
		}
		fd, err := bindListen(abi.Listen{Network: "tcp", Address: "127.0.0.1:2379"})
		if err == nil {
			err = unix.Close(fd)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// loopback sets the flags of lo. A network in which no interface ever was up takes
// any address for a broadcast, and lets it be bound by mistake.
func loopback(flags uint16) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(flags)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
