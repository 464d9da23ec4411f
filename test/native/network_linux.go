package native

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"

	"golang.org/x/sys/unix"
)

// apiAddress is where the gateway is inside.
const apiAddress = "127.0.0.1:7400"

// dial connects to a TCP address inside. A socket stays in the network
// namespace it was made in, whoever uses it.
func (m *Machine) dial(ctx context.Context, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		var r result
		r.err = inNamespace(m.network, func() (err error) {
			r.conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
			return err
		})
		done <- r
	}()
	r := <-done
	return r.conn, r.err
}

// inNamespace runs f in a network namespace. It is to be called on a goroutine of
// its own: should there be no way back, that goroutine's thread ends with it.
func inNamespace(network int, f func() error) error {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	if err := unix.Setns(network, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	err = f()
	if unix.Setns(own, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// forward carries connections from a port of the host's to the gateway, for
// clients that know nothing of namespaces, until the listener is closed.
func (m *Machine) forward(l net.Listener) {
	for {
		outside, err := l.Accept()
		if err != nil {
			return
		}
		go m.carry(outside)
	}
}

func (m *Machine) carry(outside net.Conn) {
	defer outside.Close()
	inside, err := m.dial(context.Background(), apiAddress)
	if err != nil {
		return
	}
	defer inside.Close()
	go func() {
		io.Copy(inside, outside)
		inside.Close()
	}()
	io.Copy(outside, inside)
}
