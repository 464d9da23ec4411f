package main

import (
	"context"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
)

// PID 1 must outlive its callers' mistakes and malice. This file bounds how much
// of it they can have and keeps a bug in a handler from being the machine's end.

const (
	// maxConnections is per caller and service. A daemon keeps one connection,
	// and one more for each stream.
	maxConnections = 64
	// maxCalls is how many calls of all callers PID 1 has in hand; the rest is
	// turned away at once.
	maxCalls = 128
)

// guarded registers services whose handlers cannot panic and are never too many.
type guarded struct {
	ipc.Registrar
	log   journal
	calls *atomic.Int32
}

// RegisterService implements ipc.Registrar.
func (g guarded) RegisterService(name string, desc *ttrpc.ServiceDesc) {
	for method, handle := range desc.Methods {
		desc.Methods[method] = func(ctx context.Context, unmarshal func(any) error) (answer any, err error) {
			defer g.leave(method, &err)
			if err := g.enter(); err != nil {
				return nil, err
			}
			return handle(ctx, unmarshal)
		}
	}
	for method, stream := range desc.Streams {
		handle := stream.Handler
		stream.Handler = func(ctx context.Context, s ttrpc.StreamServer) (answer any, err error) {
			defer g.leave(method, &err)
			if err := g.enter(); err != nil {
				return nil, err
			}
			return handle(ctx, s)
		}
		desc.Streams[method] = stream
	}
	g.Registrar.RegisterService(name, desc)
}

func (g guarded) enter() error {
	if g.calls.Add(1) > maxCalls {
		return status.Error(codes.ResourceExhausted, "PID 1 has too many calls in hand")
	}
	return nil
}

func (g guarded) leave(method string, err *error) {
	g.calls.Add(-1)
	if r := recover(); r != nil {
		g.log.warn("BUG: %s: %v: %s", method, r, debug.Stack())
		*err = status.Errorf(codes.Internal, "%s: a bug in PID 1, see its log", method)
	}
}

// crowdedListener closes connections beyond maxConnections. Those it returned
// are not its own any more, so it asks each whether it is still open.
type crowdedListener struct {
	net.Listener
	mu   sync.Mutex // guards open
	open []*net.UnixConn
}

// Accept implements net.Listener.
func (l *crowdedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if u, ok := c.(*net.UnixConn); ok && l.admit(u) {
			return u, nil
		}
		c.Close()
	}
}

func (l *crowdedListener) admit(c *net.UnixConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= maxConnections {
		still := l.open[:0]
		for _, o := range l.open {
			if isOpen(o) {
				still = append(still, o)
			}
		}
		clear(l.open[len(still):])
		l.open = still
	}
	if len(l.open) >= maxConnections {
		return false
	}
	l.open = append(l.open, c)
	return true
}

// isOpen says whether nobody has closed c.
func isOpen(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	return err == nil && raw.Control(func(uintptr) {}) == nil
}
