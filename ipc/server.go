package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Caller is one who may call, and what: full service names with the names of
// their methods.
type Caller struct {
	Name    string
	Methods map[string][]string
}

func (c Caller) may(service, method string) bool {
	for _, m := range c.Methods[service] {
		if m == method {
			return true
		}
	}
	return false
}

// Refusal is told of every call that was refused because the caller may not
// make it.
type Refusal func(caller, method string)

// Server answers on any number of listening sockets, each of which belongs to
// one caller. Register services first, then Listen, then Drain once.
type Server struct {
	refused  Refusal
	worked   func() // told after each unary call
	limits   Limits
	services map[string]*ttrpc.ServiceDesc

	handlers chan struct{} // holds one for every unary call that is worked on

	ending context.Context // done when Drain begins
	end    context.CancelFunc

	mu        sync.Mutex // guards what follows
	draining  bool
	listeners []net.Listener
	servers   []*ttrpc.Server
	conns     map[*servedConn]struct{}
	gone      sync.Cond // on every removal from conns

	accepting sync.WaitGroup // the loops that accept
}

// maxHandlers is how many unary calls a server works on at a time; the others wait.
// Each may block a thread in a file or a device, and a daemon's threads are limited.
const maxHandlers = 8

// NewServer returns a server without services; refused may be nil.
func NewServer(refused Refusal) *Server {
	if refused == nil {
		refused = func(string, string) {}
	}
	s := &Server{refused: refused, worked: func() {}, limits: defaultLimits, services: map[string]*ttrpc.ServiceDesc{}, handlers: make(chan struct{}, maxHandlers), conns: map[*servedConn]struct{}{}}
	s.gone.L = &s.mu
	s.ending, s.end = context.WithCancel(context.Background())
	return s
}

// Told has worked called after each unary call. To be called before Listen.
func (s *Server) Told(worked func()) { s.worked = worked }

// RegisterService implements Registrar.
func (s *Server) RegisterService(name string, desc *ttrpc.ServiceDesc) {
	if _, twice := s.services[name]; twice {
		panic("BUG: service " + name + " registered twice")
	}
	s.services[name] = desc
}

// Listen answers caller's calls on l until Drain. It takes l over and returns
// at once; failed is called if accepting ends for another reason.
func (s *Server) Listen(l net.Listener, caller Caller, failed func(error)) error {
	t, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	for name, desc := range s.services {
		t.RegisterService(name, s.narrow(name, desc, caller))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return fmt.Errorf("listen for %s: the server is finishing", caller.Name)
	}
	s.listeners = append(s.listeners, l)
	s.servers = append(s.servers, t)
	s.accepting.Go(func() {
		err := s.accept(l, t)
		if err != nil && s.ending.Err() == nil && failed != nil {
			failed(fmt.Errorf("accept calls of %s: %w", caller.Name, err))
		}
	})
	return nil
}

// accept hands each connection to t, in a context by which its handlers find it.
func (s *Server) accept(l net.Listener, t *ttrpc.Server) error {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
			time.Sleep(acceptPause)
			continue
		case err != nil:
			return err
		}
		conn, err := s.adopt(c, l)
		if err != nil {
			return err
		}
		if conn == nil {
			c.Close()
			continue
		}
		// Serve returns when it has the one connection; a goroutine serves that.
		if err := t.Serve(context.WithValue(context.Background(), connKey{}, conn), &oneConn{conn}); err != io.EOF {
			conn.Close()
			return err
		}
	}
}

// acceptPause is how long a server waits for descriptors when it has used all of its own.
const acceptPause = 10 * time.Millisecond

// oneConn is a listener that has one connection to give.
type oneConn struct{ conn *servedConn }

func (l *oneConn) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, io.EOF
	}
	c := l.conn
	l.conn = nil
	return c, nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
func (l *oneConn) Close() error   { return nil }

// connKey is the context's key of a call's *servedConn.
type connKey struct{}

// streamKey is the context's key by which Wait knows a stream, which takes no place of a handler.
type streamKey struct{}

// narrow returns desc with the methods that caller may not use replaced by a
// refusal, and with streams that end when the server does.
func (s *Server) narrow(service string, desc *ttrpc.ServiceDesc, caller Caller) *ttrpc.ServiceDesc {
	out := &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{}, Streams: map[string]ttrpc.Stream{}}
	for name, m := range desc.Methods {
		if !caller.may(service, name) {
			m = func(context.Context, func(any) error) (any, error) { return nil, s.refuse(caller, service, name) }
		}
		out.Methods[name] = func(ctx context.Context, unmarshal func(any) error) (any, error) {
			select {
			case s.handlers <- struct{}{}:
				defer func() { <-s.handlers }()
			case <-ctx.Done():
				return nil, status.FromContextError(ctx.Err()).Err()
			}
			defer s.worked()
			answer, err := m(ctx, unmarshal)
			if err != nil {
				return nil, err
			}
			return answer, fits(answer)
		}
	}
	out.Methods[tooLarge] = s.limits.refuseTooLarge
	for name, st := range desc.Streams {
		handler := st.Handler
		if !caller.may(service, name) {
			handler = func(context.Context, ttrpc.StreamServer) (any, error) {
				return nil, s.refuse(caller, service, name)
			}
		}
		st.Handler = func(ctx context.Context, stream ttrpc.StreamServer) (any, error) {
			ctx, cancel := context.WithCancel(context.WithValue(ctx, streamKey{}, true))
			defer cancel()
			defer context.AfterFunc(s.ending, cancel)()
			conn := ctx.Value(connKey{}).(*servedConn)
			defer conn.unread(-maxUnread) // what the handler has left unread holds nobody up
			answer, err := handler(ctx, pacedStream{stream, conn})
			if err != nil && s.ending.Err() != nil {
				err = status.Error(codes.Unavailable, "the daemon is being replaced: call again")
			}
			return answer, err
		}
		out.Streams[name] = st
	}
	return out
}

// responseBytes is what ttrpc puts around an answer, generously.
const responseBytes = 64

// fits refuses an answer that ttrpc would refuse to send: by then it could only
// close the connection, and with it every other call on it.
func fits(answer any) error {
	m, ok := answer.(proto.Message)
	if !ok || proto.Size(m) <= MaxMessageBytes-responseBytes {
		return nil
	}
	return status.Errorf(codes.ResourceExhausted, "the answer has %d bytes: a message has at most %d", proto.Size(m), MaxMessageBytes-responseBytes)
}

// pacedStream is fits for each message of a stream that is sent, and tells the
// connection of each that was received.
type pacedStream struct {
	ttrpc.StreamServer
	conn *servedConn
}

func (s pacedStream) SendMsg(m any) error {
	if err := fits(m); err != nil {
		return err
	}
	return s.StreamServer.SendMsg(m)
}

func (s pacedStream) RecvMsg(m any) error {
	err := s.StreamServer.RecvMsg(m)
	if err == nil {
		s.conn.unread(-1)
	}
	return err
}

func (s *Server) refuse(caller Caller, service, method string) error {
	s.refused(caller.Name, "/"+service+"/"+method)
	return status.Errorf(codes.PermissionDenied, "%s may not call %s of %s: its daemon.toml does not name it", caller.Name, method, service)
}

// Drain stops accepting, answers everything that callers have sent so far and
// returns when all connections are closed or ctx ends. See the package's
// comment for why nothing is lost.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.end()
	for _, l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	// A connection may be between the kernel and conns: it is in there once its
	// loop has ended.
	s.accepting.Wait()
	s.mu.Lock()
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gone.Broadcast()
	})
	for len(s.conns) > 0 && ctx.Err() == nil {
		s.gone.Wait()
	}
	left := len(s.conns)
	servers := s.servers
	s.mu.Unlock()
	stop()
	for _, t := range servers {
		t.Close()
	}
	if left > 0 {
		return fmt.Errorf("finish calls: %d connections still busy: %w", left, ctx.Err())
	}
	return nil
}

// adopt makes a connection of a listener one of the server's; nil means that the caller has too many.
func (s *Server) adopt(c net.Conn, from net.Listener) (*servedConn, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("BUG: ipc serves unix sockets only")
	}
	conn := &servedConn{UnixConn: u, source: u, s: s, from: from, open: map[uint32]struct{}{}}
	if s.limits.MessageBytes < MaxMessageBytes {
		for name := range s.services {
			conn.source = newSizedReader(u, s.limits.MessageBytes, name)
			break
		}
	}
	conn.moved.L = &conn.mu
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for other := range s.conns {
		if other.from == from {
			n++
		}
	}
	if !s.limits.admit(n) {
		return nil, nil
	}
	s.conns[conn] = struct{}{}
	if s.draining {
		conn.drain()
	}
	return conn, nil
}

// maxUnread is how many messages of a stream wait for its handler, or the handler's for
// its receiver; further ones wait in the socket, and their sender with them. ttrpc itself would take 64, of up
// to 4 MiB each, and then break the stream of a handler that is busy for a second.
const maxUnread = 4

// servedConn is a connection as its server sees it. It knows which calls are
// open, so that a connection that drains ends only when all are answered.
type servedConn struct {
	*net.UnixConn
	source   io.Reader // of what comes in
	s        *Server
	from     net.Listener
	draining atomic.Bool
	closed   sync.Once

	mu      sync.Mutex // guards what follows
	moved   sync.Cond  // on every removal from open and every change of waiting
	open    map[uint32]struct{}
	uploads bool // its caller sends a stream
	waiting int  // messages of the stream that are not in their handler's hands
	in, out frames
}

func (c *servedConn) drain() {
	c.draining.Store(true)
	c.UnixConn.CloseRead()
}

// unread counts messages that wait for their handler.
func (c *servedConn) unread(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = max(0, c.waiting+n)
	c.moved.Broadcast()
}

func (c *servedConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	// A caller that does not read its answers waits too, instead of filling the server's memory with them.
	for len(c.open) >= c.s.limits.Calls || len(c.open) > 0 && c.waiting >= maxUnread {
		c.moved.Wait()
	}
	c.mu.Unlock()
	n, err := c.source.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.feed(b[:n], func(stream uint32, kind, flags byte) {
		switch {
		case begins(kind):
			c.open[stream] = struct{}{}
		case carries(kind, flags):
			c.uploads = true
			c.waiting++
		}
	})
	for err != nil && c.draining.Load() && len(c.open) > 0 {
		c.moved.Wait()
	}
	return n, err
}

func (c *servedConn) Write(b []byte) (int, error) {
	n, err := c.UnixConn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.feed(b[:n], func(stream uint32, kind, flags byte) {
		if ends(kind, flags) {
			delete(c.open, stream)
		}
	})
	if err != nil {
		clear(c.open) // the caller is gone; nobody waits for the rest
	}
	if c.uploads && len(c.open) == 0 {
		// The handler has answered and reads no more: whoever still sends learns it now.
		c.UnixConn.CloseRead()
	}
	c.moved.Broadcast()
	return n, err
}

func (c *servedConn) Close() error {
	err := c.UnixConn.Close()
	c.closed.Do(func() {
		c.mu.Lock()
		clear(c.open)
		c.waiting = 0
		c.moved.Broadcast()
		c.mu.Unlock()
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		delete(c.s.conns, c)
		c.s.gone.Broadcast()
	})
	return err
}
