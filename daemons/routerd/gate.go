package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	handshakeTimeout = 10 * time.Second
	// maxHandshakeBytes bounds what a client sends before its handshake is done: its
	// certificate is about 1 KiB, a chain a few.
	maxHandshakeBytes = 16 << 10
	// acceptPause is the time between attempts to accept while descriptors have run out.
	acceptPause = 10 * time.Millisecond
)

// gate accepts connections, has each client prove who it is, and passes the connection
// on to one of two ports. It knows which connections are there.
type gate struct {
	net.Listener
	keeper  *keeper
	config  *tls.Config
	log     *slog.Logger
	refused rateLimit
	limits  *limits
	pace    *pace
	life    time.Duration // of an anonymous client's connection

	members *port // connections with a valid certificate
	public  *port // connections without one

	mu        sync.Mutex // guards what follows
	pending   pool       // handshakes in progress
	anonymous pool       // connections that are public's
	entering  int        // connections that no gRPC server has in hand yet
	entered   sync.Cond  // entering has become 0
}

func newGate(l net.Listener, k *keeper, log *slog.Logger) *gate {
	g := &gate{
		Listener: l, keeper: k, log: log, limits: newLimits(), pace: newPace(handshakeInterval, handshakeBurst), life: anonymousLife,
		pending: newPool(maxPending), anonymous: newPool(maxAnonymous),
		members: newPort(l.Addr()), public: newPort(l.Addr()),
	}
	g.entered.L = &g.mu
	g.config = &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequestClientCert, // callerOf judges it
		GetCertificate: k.certificateFor,
		NextProtos:     []string{"h2"},
		// A ticket would carry an old judgement of the certificate into a new connection.
		SessionTicketsDisabled: true,
		// TLS calls it with the whole ClientHello, before it computes anything.
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return nil, g.pace.wait(hello.Context(), hello.Conn.(*inbound).address)
		},
	}
	return g
}

// run accepts until the listener is closed.
func (g *gate) run() error {
	for {
		c, err := g.Listener.Accept()
		if temporary, ok := err.(interface{ Temporary() bool }); ok && temporary.Temporary() {
			time.Sleep(acceptPause)
			continue
		}
		if err != nil {
			return err
		}
		go g.enter(g.admit(c))
	}
}

// admit makes the connection one of the pending.
func (g *gate) admit(c net.Conn) *inbound {
	in := &inbound{Conn: c, gate: g, entering: true}
	in.ctx, in.cancel = context.WithTimeout(context.Background(), handshakeTimeout)
	in.left = maxHandshakeBytes
	in.address, in.network = clientOf(c)
	g.mu.Lock()
	g.entering++
	displaced := g.pending.add(in)
	g.mu.Unlock()
	if displaced != nil {
		displaced.Close()
	}
	return in
}

// enter takes a connection through its handshake.
func (g *gate) enter(in *inbound) {
	defer in.cancel()
	out, err := g.shake(in)
	if err == nil {
		to := g.members
		if out.session.member == nil {
			to = g.public
		}
		if err = to.pass(out); err != nil {
			out.Close()
		}
	}
	if err != nil {
		in.Close()
		if g.refused.pass(g.log) {
			g.log.Info("connection refused", "from", in.RemoteAddr(), "err", err)
		}
	}
}

func (g *gate) shake(in *inbound) (*established, error) {
	conn := tls.Server(in, g.config)
	if err := conn.HandshakeContext(in.ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != "h2" {
		return nil, errors.New("TLS handshake: the client does not offer HTTP/2 (ALPN h2)")
	}
	c := callerOf(state.PeerCertificates, g.keeper.held.Load().authority, g.keeper.now())
	if c.refusal != nil {
		return g.enterAnonymous(in, conn, c)
	}
	return g.enterMember(in, conn, c, state.PeerCertificates[0])
}

func (g *gate) enterMember(in *inbound, conn net.Conn, c caller, certificate *x509.Certificate) (*established, error) {
	m := g.limits.join(keyOf(certificate), c.role)
	if m == nil {
		return nil, fmt.Errorf("too many connections: at most %d with one certificate, and %d in all for admins, less for other roles", connections.ofOne, connections.all)
	}
	g.mu.Lock()
	g.pending.remove(in)
	in.member, in.proven = m, true
	closed := in.closed
	g.mu.Unlock()
	if closed { // it was displaced at the same moment, before it had a member to leave
		g.limits.leave(m)
		return nil, net.ErrClosed
	}
	return &established{newMemberConn(conn, g.limits, m), newSession(c, m, in)}, nil
}

func (g *gate) enterAnonymous(in *inbound, conn net.Conn, c caller) (*established, error) {
	g.mu.Lock()
	g.pending.remove(in)
	in.proven = true
	if in.closed {
		g.mu.Unlock()
		return nil, net.ErrClosed
	}
	displaced := g.anonymous.add(in)
	g.mu.Unlock()
	if displaced != nil {
		displaced.Close()
	}
	return &established{newAnonymousConn(conn, g.life), newSession(c, nil, in)}, nil
}

// inHand says that a gRPC server has the connection in hand.
func (g *gate) inHand(c *inbound) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inHandLocked(c)
}

func (g *gate) inHandLocked(c *inbound) {
	if c.entering {
		c.entering = false
		if g.entering--; g.entering == 0 {
			g.entered.Broadcast()
		}
	}
}

// busy says that a daemon works on a call of an anonymous client's connection (1), or
// has finished (-1).
func (g *gate) busy(c *inbound, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.busy += n
}

// shut stops accepting and waits until the gRPC servers have in hand what was
// accepted. What waits in the socket's queue is another process's.
func (g *gate) shut(ctx context.Context) {
	g.Listener.Close()
	defer context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.entered.Broadcast()
	})()
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.entering > 0 && ctx.Err() == nil {
		g.entered.Wait()
	}
}

// inbound is an accepted connection. It gives back what it took when it is closed.
type inbound struct {
	net.Conn
	gate             *gate
	address, network netip.Addr
	ctx              context.Context // of its handshake
	cancel           context.CancelFunc
	left             int // bytes that it may still read before it is proven; its reader's alone

	member   *member // set before it is proven
	proven   bool    // its handshake is done. Guarded by gate.mu for writing, as what follows
	entering bool
	closed   bool
	busy     int
}

// Read implements net.Conn.
func (c *inbound) Read(b []byte) (int, error) {
	if c.proven { // written by the goroutine that reads, before any other does
		return c.Conn.Read(b)
	}
	if c.left <= 0 {
		return 0, fmt.Errorf("the client has sent more than %d bytes before the end of its handshake", maxHandshakeBytes)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// Close implements net.Conn.
func (c *inbound) Close() error {
	c.cancel()
	err := c.Conn.Close()
	c.gate.mu.Lock()
	if c.closed {
		c.gate.mu.Unlock()
		return err
	}
	c.closed = true
	c.gate.inHandLocked(c)
	c.gate.pending.remove(c)
	c.gate.anonymous.remove(c)
	m := c.member
	c.gate.mu.Unlock()
	if m != nil {
		c.gate.limits.leave(m)
	}
	return err
}

// port is where a gRPC server takes its connections from.
type port struct {
	address net.Addr
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func newPort(address net.Addr) *port {
	return &port{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *port) pass(c *established) error {
	select {
	case p.conns <- c:
		return nil
	case <-p.closed:
		return net.ErrClosed
	}
}

// Accept implements net.Listener.
func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *port) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *port) Addr() net.Addr { return p.address }
