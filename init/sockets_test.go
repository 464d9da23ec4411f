package main

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// PID 1 binds before any interface is up: a socket of the loopback interface, which
// etcdd has, is possible all the same.
func TestListenBeforeTheLoopbackIsUp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can have a network of its own")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its network
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
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
