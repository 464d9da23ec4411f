package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
)

const (
	maxConns          = 512
	maxConnsOfOne     = 32
	maxStrangers      = 64
	maxStrangersOfOne = 16
	prefixOfOne       = 64 // bits of an IPv6 address that stand for one client
)

// gate is the listening socket with its limits. It knows which connections are
// there and lets the server wait for those that are still on their way in.
type gate struct {
	net.Listener
	log    *slog.Logger
	turned trickle

	mu        sync.Mutex // guards what follows
	conns     counter
	strangers counter
	entering  int
	settled   sync.Cond // entering has become 0
}

// counter counts in all and by client.
type counter struct {
	all int
	of  map[netip.Addr]int
}

func (c *counter) take(a netip.Addr, max, maxOfOne int) bool {
	if c.all >= max || c.of[a] >= maxOfOne {
		return false
	}
	c.all++
	c.of[a]++
	return true
}

func (c *counter) give(a netip.Addr) {
	c.all--
	if c.of[a]--; c.of[a] == 0 {
		delete(c.of, a)
	}
}

func newGate(l net.Listener, log *slog.Logger) *gate {
	g := &gate{Listener: l, log: log, conns: counter{of: map[netip.Addr]int{}}, strangers: counter{of: map[netip.Addr]int{}}}
	g.settled.L = &g.mu
	return g
}

// Accept returns the next connection that is within the limits.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if gated := g.take(c); gated != nil {
			return gated, nil
		}
		c.Close()
		if g.turned.pass(g.log) {
			g.log.Warn("connection turned away: too many", "from", c.RemoteAddr())
		}
	}
}

func (g *gate) take(c net.Conn) *gatedConn {
	a := clientOf(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.conns.take(a, maxConns, maxConnsOfOne) {
		return nil
	}
	g.entering++
	return &gatedConn{Conn: c, gate: g, client: a, entering: true}
}

// entered says that the server has the connection in hand.
func (g *gate) entered(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.enteredLocked(c.(*gatedConn))
}

func (g *gate) enteredLocked(c *gatedConn) {
	if c.entering {
		c.entering = false
		if g.entering--; g.entering == 0 {
			g.settled.Broadcast()
		}
	}
}

// takeStranger counts a connection as a stranger's, unless there are too many.
func (g *gate) takeStranger(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	gated := c.(*gatedConn)
	gated.stranger = g.strangers.take(gated.client, maxStrangers, maxStrangersOfOne)
	return gated.stranger
}

// shut stops accepting and waits until the server has in hand what was
// accepted. What waits in the socket's queue is another process's.
func (g *gate) shut(ctx context.Context) {
	g.Listener.Close()
	defer context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.settled.Broadcast()
	})()
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.entering > 0 && ctx.Err() == nil {
		g.settled.Wait()
	}
}

// gatedConn gives back what it took when it is closed.
type gatedConn struct {
	net.Conn
	gate     *gate
	client   netip.Addr
	entering bool // guarded by gate.mu, as what follows
	stranger bool
	closed   bool
}

func (c *gatedConn) Close() error {
	err := c.Conn.Close()
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.closed {
		return err
	}
	c.closed = true
	c.gate.enteredLocked(c)
	c.gate.conns.give(c.client)
	if c.stranger {
		c.gate.strangers.give(c.client)
	}
	return err
}

// clientOf returns what stands for the client in the counters.
func clientOf(c net.Conn) netip.Addr {
	t, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := t.AddrPort().Addr().Unmap()
	if a.Is6() {
		p, _ := a.WithZone("").Prefix(prefixOfOne)
		return p.Addr()
	}
	return a
}
