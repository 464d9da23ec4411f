package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/log"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// These tests are attacks on the gateway by clients that stall. In each an admin, and the owner
// who claims the machine, must be served as if the attackers were not there.

// None of them may be served because the time of an attacker's message is over: it is unlimited here.

// patience is how long an admin or a claimer waits: far less than an attacker does.
const patience = time.Minute

// served fails unless a new connection of an admin and one of the owner are served.
func (f *fixture) served(t *testing.T, attack string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// Whatever the attackers have begun, more of it cannot make this worse later.
	if err := f.dial(f.ca.client("ada", []string{"admin"})).Invoke(ctx, listLinks, &network.ListLinksRequest{}, new(network.ListLinksResponse)); err != nil {
		t.Errorf("%s: an admin's call: %v", attack, err)
	}
	if err := f.dial(nil).Invoke(ctx, claim, &trust.ClaimRequest{}, new(trust.ClaimResponse)); err != nil {
		t.Errorf("%s: the owner's claim: %v", attack, err)
	}
}

// attackers run until the test ends.
type attackers struct {
	ctx    context.Context
	jobs   sync.WaitGroup
	opened atomic.Int64 // streams, so far
}

func newAttackers(t *testing.T) *attackers {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attackers{ctx: ctx}
	t.Cleanup(func() {
		cancel()
		a.jobs.Wait()
	})
	return a
}

// stall opens streams of the method, sends nothing on them, and opens another when one ends.
func (a *attackers) stall(f *fixture, certificate *tls.Certificate, conns, streams int, method string) {
	for range conns {
		c := f.dial(certificate)
		for range streams {
			a.jobs.Go(func() {
				for a.ctx.Err() == nil {
					if s, err := c.NewStream(a.ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method); err == nil {
						a.opened.Add(1)
						s.RecvMsg(new(emptypb.Empty))
					}
					pause(a.ctx)
				}
			})
		}
	}
}

// pause keeps an attacker that is refused at once from using the processor that the test needs.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}

const (
	healthCheck = "/grpc.health.v1.Health/Check"
	healthWatch = "/grpc.health.v1.Health/Watch"
	reflect     = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
)

// Clients that open calls and never send what they are to send.
func TestStalledCalls(t *testing.T) {
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }
	early := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }
	for _, c := range []struct {
		attack      string
		certificate func(*ca) *tls.Certificate
		member      bool
		methods     []string
	}{
		{"claims without a certificate", func(*ca) *tls.Certificate { return nil }, false, []string{claim}},
		{"claims with an expired certificate", func(a *ca) *tls.Certificate { return a.client("old", []string{"admin"}, expired) }, false, []string{claim}},
		{"claims with a certificate that is not valid yet", func(a *ca) *tls.Certificate { return a.client("early", []string{"admin"}, early) }, false, []string{claim}},
		{"claims with a certificate without a role", func(a *ca) *tls.Certificate { return a.client("rob", nil) }, false, []string{claim}},
		{"claims with a reader's certificate", func(a *ca) *tls.Certificate { return a.client("bob", []string{"reader"}) }, true, []string{claim}},
		{"health without a certificate", func(*ca) *tls.Certificate { return nil }, false, []string{healthCheck, healthWatch}},
		{"health and reflection with a reader's certificate", func(a *ca) *tls.Certificate { return a.client("bob", []string{"reader"}) }, true, []string{healthCheck, healthWatch, reflect}},
		{"calls with a reader's certificate", func(a *ca) *tls.Certificate { return a.client("bob", []string{"reader"}) }, true, []string{listLinks, readLog}},
		{"an admin's name in an operator's certificate", func(a *ca) *tls.Certificate { return a.client("ada", []string{"operator"}) }, true, []string{listLinks}},
	} {
		t.Run(c.attack, func(t *testing.T) {
			f := start(t)
			a := newAttackers(t)
			certificate := c.certificate(f.ca)
			for _, method := range c.methods {
				a.stall(f, certificate, 4, 20, method)
			}
			// An anonymous connection has two at a time, a certificate 64.
			eventually(t, func() bool {
				return a.opened.Load() >= 4*maxAnonymousStreams && (!c.member || f.inUse().calls == calls.ofOne)
			})
			for range 3 {
				f.served(t, c.attack)
			}
		})
	}
}

// All of them at the same time.
func TestStalledCallsOfAllKinds(t *testing.T) {
	f := start(t)
	a := newAttackers(t)
	a.stall(f, nil, 4, 40, claim)
	a.stall(f, f.ca.client("old", []string{"reader"}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), 4, 40, claim)
	a.stall(f, f.ca.client("rob", nil), 4, 40, healthCheck)
	for i := range 6 {
		a.stall(f, f.ca.client(fmt.Sprint("bob", i), []string{"reader"}), 1, 80, listLinks)
	}
	for i := range 6 {
		a.stall(f, f.ca.client(fmt.Sprint("ole", i), []string{"operator"}), 1, 80, reflect)
	}
	eventually(t, func() bool { return f.inUse().calls >= calls.all*3/4 })
	for range 3 {
		f.served(t, "all kinds")
	}
}

// from returns a way to dial from another address of this host.
func from(i int) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}}
}

// Handshakes that never end, from one address and from many, re-opened when they are closed.
func TestStalledHandshakes(t *testing.T) {
	for _, addresses := range []int{1, 250} {
		t.Run(fmt.Sprint("from ", addresses), func(t *testing.T) {
			f := start(t)
			a := newAttackers(t)
			hello := clientHello(t)
			var begun sync.WaitGroup
			for i := range 2 * maxPending {
				begun.Add(1)
				a.jobs.Go(func() {
					first := sync.OnceFunc(begun.Done)
					defer first()
					for a.ctx.Err() == nil {
						c, err := from(1+i%addresses).DialContext(a.ctx, "tcp", f.address)
						if err == nil {
							if i%2 == 0 {
								c.Write(hello[:len(hello)/2]) // the rest never comes
							}
							stop := context.AfterFunc(a.ctx, func() { c.Close() })
							first()
							c.Read(make([]byte, 1))
							stop()
							c.Close()
						}
						pause(a.ctx)
					}
				})
			}
			begun.Wait()
			g := f.server.gate
			eventually(t, func() bool {
				g.mu.Lock()
				defer g.mu.Unlock()
				return len(g.pending.conns) == maxPending
			})
			for range 3 {
				f.served(t, "stalled handshakes")
			}
		})
	}
}

// clientHello returns the first bytes of a handshake.
func clientHello(t *testing.T) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go tls.Client(client, &tls.Config{ServerName: "localhost"}).Handshake()
	b := make([]byte, 16<<10)
	server.SetReadDeadline(time.Now().Add(patience))
	n, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// Idle connections of anonymous clients from many addresses: the owner displaces one of them.
func TestAnonymousConnectionsFromManyAddresses(t *testing.T) {
	f := start(t)
	for i := range maxAnonymous {
		c, err := tls.DialWithDialer(from(1+i), "tcp", f.address, f.clientConfig(nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	f.served(t, "idle anonymous connections")
}

// A reader may have many streams open, and others' streams and calls go on: each stream is
// a socket, of which the gateway has a limited number.
func TestStreamsOfOneCertificate(t *testing.T) {
	f := start(t)
	certificate := f.ca.client("bob", []string{"reader"})
	opened, refused := 0, 0
	var mu sync.Mutex
	var jobs sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer jobs.Wait()
	defer cancel()
	const conns, each = 8, 32
	for range conns {
		c := f.dial(certificate)
		for range each {
			jobs.Go(func() {
				s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, readLog)
				if err == nil {
					s.SendMsg(&log.ReadLogRequest{Daemon: "networkd", Follow: true})
					s.CloseSend()
					err = s.RecvMsg(new(log.Line))
				}
				mu.Lock()
				defer mu.Unlock()
				switch status.Code(err) {
				case codes.OK:
					opened++
				case codes.ResourceExhausted:
					refused++
				}
			})
		}
	}
	eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return opened+refused == conns*each
	})
	if opened != calls.ofOne {
		t.Errorf("%d streams were opened with one certificate, want %d", opened, calls.ofOne)
	}
	f.served(t, "many streams")
	if err := f.dial(f.ca.client("eve", []string{"reader"})).Invoke(t.Context(), listLinks, &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Errorf("another reader: %v", err)
	}
}

// Large messages wait for memory outside the gateway, and those of a lower role do not keep a
// higher role's out.
func TestLargeMessages(t *testing.T) {
	f := start(t)
	var stalled []*rawClient
	for i := range 4 {
		c := f.raw(t, f.ca.client(fmt.Sprint("ole", i), []string{"operator"}))
		c.begin(t, reboot, 4<<20-64, 20<<10)
		stalled = append(stalled, c)
	}
	limit := largeMessages.all * 3 / 4
	eventually(t, func() bool {
		l := f.server.gate.limits
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.used.large == limit && len(l.waiting) == len(stalled)-limit
	})
	f.served(t, "stalled large messages")
	admins := f.dial(f.ca.client("ada", []string{"admin"}))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := admins.Invoke(ctx, reboot, &dev.ReplaceDaemonRequest{Chunk: make([]byte, 1<<20)}, &emptypb.Empty{}); err != nil {
		t.Errorf("an admin's large message: %v", err)
	}
	// Small messages of operators need no place.
	if err := f.dial(f.ca.client("ona", []string{"operator"})).Invoke(ctx, reboot, &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Errorf("an operator's small message: %v", err)
	}
	// What waits moves up when others end, however they do.
	stalled[0].framer.WriteRSTStream(1, http2.ErrCodeCancel)
	for _, c := range stalled[1:] {
		c.conn.Close()
	}
	eventually(t, func() bool { return f.inUse().large == 0 })
	if err := f.dial(f.ca.client("ola", []string{"operator"})).Invoke(ctx, reboot, &machine.RestartDaemonRequest{Name: string(make([]byte, 1<<20))}, &emptypb.Empty{}); err != nil {
		t.Errorf("an operator's large message in the end: %v", err)
	}
	eventually(t, func() bool { return f.inUse().large == 0 })
}

// A large message that does not arrive is given up, one that waits for its place as well.
func TestLargeMessagesThatStall(t *testing.T) {
	f := startWithin(t, short)
	var clients []*rawClient
	for i := range 3 {
		c := f.raw(t, f.ca.client(fmt.Sprint("ole", i), []string{"operator"}))
		c.begin(t, reboot, 1<<20, 20<<10)
		clients = append(clients, c)
	}
	for _, c := range clients {
		if code := c.status(t); code != codes.DeadlineExceeded {
			t.Errorf("a message that stalls: %v", code)
		}
	}
	eventually(t, func() bool { return f.inUse().large == 0 && f.inUse().calls == 0 })
}

// Bytes that come before the end of a handshake are limited.
func TestHandshakeBytes(t *testing.T) {
	f := start(t)
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	// A ClientHello of 60 KiB in records of 16: TLS itself would keep it all.
	c.Write([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xf0, 0})
	c.Write(make([]byte, 0x4000-4))
	for range 3 {
		c.Write([]byte{22, 3, 1, 0x40, 0})
		c.Write(make([]byte, 0x4000))
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the gateway answers")
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("the connection stays open")
	}
	eventually(t, func() bool { g := f.server.gate; g.mu.Lock(); defer g.mu.Unlock(); return len(g.pending.conns) == 0 })
}

// An anonymous client whose claim a daemon works on is not displaced.
func TestPoolLeavesBusyConnectionsAlone(t *testing.T) {
	p := newPool(3)
	at := func(address string) *inbound {
		in := &inbound{}
		a := net.ParseIP(address)
		in.address, in.network = clientOf(remote{&net.TCPAddr{IP: a}})
		return in
	}
	owner := at("192.168.1.2")
	p.add(owner)
	first, second := at("10.0.0.1"), at("10.0.0.1")
	p.add(first)
	p.add(second)
	if v := p.add(at("10.0.0.9")); v != first {
		t.Error("not the oldest of the address with the most connections is displaced")
	}
	owner.busy++
	if v := p.add(at("10.0.0.8")); v != second {
		t.Error("not the oldest one that is not busy is displaced")
	}
	owner.busy--
	if v := p.add(at("10.0.0.7")); v != owner {
		t.Error("not the oldest is displaced")
	}
	six := newPool(4)
	neighbour := at("fd00::1")
	six.add(neighbour)
	six.add(at("fd00:0:0:1::1"))
	six.add(at("fd00:0:0:1::2"))
	six.add(at("fd00:0:0:1::3"))
	if v := six.add(at("fd00::2")); v == neighbour {
		t.Error("addresses of one IPv6 network count as many clients")
	}
}

// remote is a connection with an address.
type remote struct{ a net.Addr }

func (r remote) RemoteAddr() net.Addr           { return r.a }
func (remote) LocalAddr() net.Addr              { return nil }
func (remote) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (remote) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (remote) Close() error                     { return nil }
func (remote) SetDeadline(time.Time) error      { return nil }
func (remote) SetReadDeadline(time.Time) error  { return nil }
func (remote) SetWriteDeadline(time.Time) error { return nil }
