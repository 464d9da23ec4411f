package ipc

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// dyingConn is a connection to a server that is killed with a request in its hands:
// what it was sent is known to have been taken only after its end has been read.
type dyingConn struct {
	net.Conn
	release chan struct{} // lets Write return
}

func (c dyingConn) Write(b []byte) (int, error) { <-c.release; return len(b), nil }
func (dyingConn) Read([]byte) (int, error)      { return 0, io.EOF }

// waitSpy is a condition's lock that tells when somebody begins to wait for it.
type waitSpy struct {
	*sync.Mutex
	waits func()
}

func (s waitSpy) Unlock() { s.waits(); s.Mutex.Unlock() }

// A request was sent and its server died before Write came back to say so. The end of
// the connection, which waits for calls that may have been answered, must go
// on then: else the caller learns of it at its deadline.
func TestServerDiesBeforeWriteReturns(t *testing.T) {
	release := make(chan struct{})
	c := newCallingConn(dyingConn{release: release})
	c.changed.L = waitSpy{&c.mu, sync.OnceFunc(func() { close(release) })}
	if !c.begin() {
		t.Fatal("a new connection takes no calls")
	}
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 10))
		read <- err
	}()
	if _, err := c.Write([]byte{0, 0, 0, 0, 0, 0, 0, 1, frameRequest, 0}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-read:
		if err != io.EOF {
			t.Errorf("read: %v, want the connection's end", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the connection's end is kept from its caller")
	}
}
