package ipc

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// defaultTimeout bounds a call whose context has no deadline: longer than a
	// daemon may take to be restarted or replaced, so that a caller is never
	// stuck for ever behind one that gave up.
	defaultTimeout = 30 * time.Second
	// maxLost is how often an idempotent call is sent again after the server died
	// with it: a request that kills its server must not do so for ever.
	maxLost = 4
	// backlogWait is how long to wait before connecting again to a socket whose
	// backlog is full.
	backlogWait = 5 * time.Millisecond
)

// errNotSent says that the kernel refused a request whole or in part, so that
// its server has not acted on it.
var errNotSent = errors.New("request not sent")

// Peer is a Conn to one service over a unix socket. It connects when it is
// first needed and again whenever its server was replaced. Safe for use by many
// goroutines.
type Peer struct {
	dial func(context.Context) (net.Conn, error)
	name string // for messages: the service's short name

	mu  sync.Mutex // guards cur
	cur *link
}

// NewPeer returns a Peer that dials the unix socket at path; name is the
// service's short name, for messages.
func NewPeer(name, path string) *Peer {
	var d net.Dialer
	return NewPeerFunc(name, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "unix", path) })
}

// NewPeerFunc is NewPeer for connections made in another way.
func NewPeerFunc(name string, dial func(context.Context) (net.Conn, error)) *Peer {
	return &Peer{dial: dial, name: name}
}

// Invoke implements Conn.
func (p *Peer) Invoke(ctx context.Context, m *Method, request, response proto.Message) error {
	ctx, cancel := withDefaultTimeout(ctx)
	defer cancel()
	for lost := 0; ; {
		l, err := p.link(ctx)
		if err != nil {
			return err
		}
		err = l.call(ctx, m, request, response)
		switch {
		case errors.Is(err, errNotSent):
			p.drop(l)
		case errors.Is(err, ttrpc.ErrClosed):
			p.drop(l)
			if lost++; !m.Idempotent || lost > maxLost {
				return status.Errorf(codes.Unavailable, "%s: the daemon died while it served %s; the call may have taken effect", p.name, m.Name)
			}
		default:
			return asStatus(err)
		}
		if ctx.Err() != nil {
			return asStatus(ctx.Err())
		}
	}
}

// Told returns c, but that worked is called after each unary call.
func Told(c Conn, worked func()) Conn { return toldConn{c, worked} }

type toldConn struct {
	Conn
	worked func()
}

func (c toldConn) Invoke(ctx context.Context, m *Method, request, response proto.Message) error {
	defer c.worked()
	return c.Conn.Invoke(ctx, m, request, response)
}

// Open implements Conn. A stream has a connection of its own.
func (p *Peer) Open(ctx context.Context, m *Method, request proto.Message) (Stream, error) {
	for {
		c, err := p.connect(ctx)
		if err != nil {
			return nil, err
		}
		conn := newCallingConn(c)
		conn.paced = true
		client := ttrpc.NewClient(conn)
		var first any
		if request != nil {
			first = request
		}
		s, err := client.NewStream(ctx, &ttrpc.StreamDesc{StreamingClient: m.ClientStream, StreamingServer: m.ServerStream}, m.Service, m.Name, first)
		switch {
		case err == nil:
			stop := context.AfterFunc(ctx, func() { client.Close() })
			return &peerStream{s, client, conn, stop, p.name}, nil
		case errors.Is(err, errNotSent) && ctx.Err() == nil:
			client.Close()
		default:
			client.Close()
			return nil, asStatus(err)
		}
	}
}

// Close closes the connection; calls in flight fail.
func (p *Peer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur != nil {
		p.cur.client.Close()
		p.cur = nil
	}
}

func (p *Peer) link(ctx context.Context) (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur != nil {
		return p.cur, nil
	}
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	conn := newCallingConn(c)
	p.cur = &link{client: ttrpc.NewClient(conn), conn: conn}
	return p.cur, nil
}

// drop forgets l, so that the next call connects anew. Calls in flight on it
// go on until they are answered or the server closes.
func (p *Peer) drop(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur == l {
		p.cur = nil
	}
}

func (p *Peer) connect(ctx context.Context) (net.Conn, error) {
	for {
		c, err := p.dial(ctx)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, syscall.EAGAIN):
			select {
			case <-ctx.Done():
				return nil, asStatus(ctx.Err())
			case <-time.After(backlogWait):
			}
		case errors.Is(err, syscall.ENOENT):
			return nil, status.Errorf(codes.PermissionDenied, "%s: no such socket here: daemon.toml names no call to it", p.name)
		case errors.Is(err, syscall.ECONNREFUSED):
			return nil, status.Errorf(codes.Unavailable, "%s: its daemon is not running", p.name)
		case ctx.Err() != nil:
			return nil, asStatus(ctx.Err())
		default:
			return nil, status.Errorf(codes.Unavailable, "%s: %v", p.name, err)
		}
	}
}

// link is one connection with its client.
type link struct {
	client *ttrpc.Client
	conn   *callingConn
}

func (l *link) call(ctx context.Context, m *Method, request, response proto.Message) error {
	if !l.conn.begin() {
		return errNotSent
	}
	defer l.conn.finish()
	return l.client.Call(ctx, m.Service, m.Name, request, response)
}

// callingConn is a connection as its client sees it. It tells refused writes
// from lost ones, and keeps the end of the connection from overtaking answers
// that have arrived but are not yet in their callers' hands.
type callingConn struct {
	net.Conn

	mu      sync.Mutex // guards what follows
	changed sync.Cond  // on every change of what is below that Read may wait for
	active  int        // calls begun and not finished
	// open is requests written less answers read. It may be below zero for a
	// moment: an answer can arrive before Write has returned.
	open    int
	ended   bool // Read has told the client of the connection's end
	in, out frames

	paced  bool // the connection is one stream's
	unread int  // its messages that Read has passed on and nobody has received
	closed bool
}

const (
	// ttrpcPatience is how many messages ttrpc keeps before it gives up a receiver.
	ttrpcPatience = 64
	// smallestFrame is a message without content.
	smallestFrame = frameHeaderBytes
)

func newCallingConn(c net.Conn) *callingConn {
	conn := &callingConn{Conn: c}
	conn.changed.L = &conn.mu
	return conn
}

// begin announces a call. It returns false when the connection has ended: a
// call that began before that end is sure to learn whether it was sent.
func (c *callingConn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.active++
	return true
}

func (c *callingConn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active--
	c.changed.Broadcast()
}

func (c *callingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:c.pace(len(b))])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.feed(b[:n], func(_ uint32, kind, flags byte) {
		c.unread++
		if ends(kind, flags) {
			c.open--
		}
	})
	for err != nil && c.active > c.open {
		c.changed.Wait()
	}
	c.ended = c.ended || err != nil
	return n, err
}

// pace waits while a stream's receiver is behind, and returns how many of n bytes may
// be read at once: never so many that ttrpc could get more messages than it keeps.
func (c *callingConn) pace(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.paced {
		return n
	}
	for c.unread >= maxUnread && !c.closed {
		c.changed.Wait()
	}
	return min(n, int(c.in.left)+(ttrpcPatience-maxUnread)*smallestFrame)
}

// received says that a stream's receiver has got a message.
func (c *callingConn) received() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unread--
	c.changed.Broadcast()
}

func (c *callingConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.Conn.Close()
}

func (c *callingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.feed(b[:n], func(_ uint32, kind, _ byte) {
		if begins(kind) {
			c.open++
			c.changed.Broadcast() // the end may have been read before this Write returned
		}
	})
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return n, errNotSent
	}
	return n, err
}

// peerStream ends its connection with itself.
type peerStream struct {
	ttrpc.ClientStream
	client *ttrpc.Client
	conn   *callingConn
	stop   func() bool
	name   string
}

func (s *peerStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.conn.received()
	if err != nil {
		s.stop()
		s.client.Close()
	}
	if errors.Is(err, ttrpc.ErrClosed) {
		return status.Errorf(codes.Unavailable, "%s: the daemon ended the stream: call again", s.name)
	}
	return err
}

func withDefaultTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

// asStatus makes a gRPC status of whatever ttrpc or a context returned.
func asStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "no answer within the deadline")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the call was cancelled")
	case errors.As(err, new(*ttrpc.OversizedMessageErr)):
		return status.Errorf(codes.ResourceExhausted, "message too large: at most %d bytes", MaxMessageBytes)
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.Error(codes.Unknown, err.Error())
}
