package main

import (
	"context"
	"net"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
)

// PID 1 must outlive its callers' mistakes and malice. This file bounds how much
// of it one caller can have, and keeps a bug in a handler from being the
// machine's end.

const (
	// maxConnections is per caller and service. A daemon keeps one connection,
	// and one more for each stream.
	maxConnections = 64
)

// guarded registers services for one caller.
type guarded struct {
	ipc.Registrar
	log journal
}

// RegisterService implements ipc.Registrar.
func (g *guarded) RegisterService(name string, desc *ttrpc.ServiceDesc) {
	for method, handle := range desc.Methods {
		desc.Methods[method] = func(ctx context.Context, unmarshal func(any) error) (answer any, err error) {
			defer g.survive(method, &err)
			return handle(ctx, unmarshal)
		}
	}
	for method, stream := range desc.Streams {
		handle := stream.Handler
		stream.Handler = func(ctx context.Context, s ttrpc.StreamServer) (answer any, err error) {
			defer g.survive(method, &err)
			return handle(ctx, s)
		}
		desc.Streams[method] = stream
	}
	g.Registrar.RegisterService(name, desc)
}

// survive turns a panic into an answer.
func (g *guarded) survive(method string, err *error) {
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
		l.open = slices.DeleteFunc(l.open, func(c *net.UnixConn) bool { return !isOpen(c) })
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
