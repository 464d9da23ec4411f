package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dactyl-os/dactyl/ipc"
)

const (
	defaultPort = "7400"
	// connectTimeout is for one TCP connection: a machine that is off should be
	// reported as such, not as a slow answer.
	connectTimeout = 5 * time.Second
	// alertWait is for an alert that has been sent before its connection ended.
	alertWait = 100 * time.Millisecond
)

// reconnect is how soon a lost connection is tried again: gRPC's own delays grow
// to two minutes, and somebody who follows a log over a reboot would wait.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, MaxDelay: 2 * time.Second},
	MinConnectTimeout: connectTimeout,
}

// stillThere finds out that a machine has gone without a word while a log is
// followed. A machine allows a ping every 10 s.
var stillThere = keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}

// withPort completes an address that a user typed.
func withPort(address string) (string, error) {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address, nil
	}
	host := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	full := net.JoinHostPort(host, defaultPort)
	if _, _, err := net.SplitHostPort(full); err != nil || host == "" {
		return "", fail(exitUsage, "%q is not an address: want HOST or HOST:PORT", address)
	}
	return full, nil
}

// withoutZone returns an address as a certificate has it. The zone of fe80::1%eth0 is
// the link of this computer by which the machine is reached: it is for dialling only.
func withoutZone(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.WithZone("").String()
	}
	return host
}

// target is a gRPC target that nothing is looked up for: handshakes has the address. It is
// not the address itself, because a target is a URL, in which a zone's % begins an escape.
const target = "passthrough:///machine"

// conn carries calls to one machine; it implements ipc.Conn.
type conn struct {
	cc      *grpc.ClientConn
	seen    *handshakes
	address string
	timeout time.Duration // of a call that is no stream
}

// dial prepares a connection; it is made with the first call.
func dial(address string, config *tls.Config, timeout time.Duration) (*conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fail(exitUsage, "%q is not an address: %w", address, err)
	}
	config.MinVersion = tls.VersionTLS13
	if config.ServerName == "" {
		config.ServerName = withoutZone(host)
	}
	seen := &handshakes{address: address}
	cc, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(&watchedTLS{credentials.NewTLS(config), seen}),
		grpc.WithContextDialer(seen.dial), grpc.WithConnectParams(reconnect), grpc.WithKeepaliveParams(stillThere))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return &conn{cc, seen, address, timeout}, nil
}

func (c *conn) close() { c.cc.Close() }

// handshake connects now, for who must know the machine before the first call.
func (c *conn) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	c.cc.Connect()
	for {
		state := c.cc.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if state == connectivity.TransientFailure {
			return c.explain(status.Error(codes.Unavailable, "no connection"))
		}
		if !c.cc.WaitForStateChange(ctx, state) {
			return c.explain(status.FromContextError(ctx.Err()).Err())
		}
	}
}

// Invoke implements ipc.Conn.
func (c *conn) Invoke(ctx context.Context, m *ipc.Method, request, response proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.explain(c.cc.Invoke(ctx, m.Path(), request, response))
}

// Open implements ipc.Conn.
func (c *conn) Open(ctx context.Context, m *ipc.Method, request proto.Message) (ipc.Stream, error) {
	s, err := c.cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: m.ServerStream, ClientStreams: m.ClientStream}, m.Path())
	if err != nil {
		return nil, c.explain(err)
	}
	out := &stream{s, c}
	if request == nil {
		return out, nil
	}
	if err := out.SendMsg(request); err != nil {
		return nil, err
	}
	return out, s.CloseSend()
}

// stream is one open call over gRPC.
type stream struct {
	grpc.ClientStream
	conn *conn
}

// SendMsg returns why the machine ended the stream, where gRPC only says that it did.
func (s *stream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if errors.Is(err, io.EOF) {
		err = s.ClientStream.RecvMsg(new(emptypb.Empty))
	}
	return s.conn.explain(err)
}

func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if errors.Is(err, io.EOF) {
		return err
	}
	return s.conn.explain(err)
}

// explain says in a sentence why there was no connection; what the machine
// itself answers goes through.
func (c *conn) explain(err error) error {
	if status.Code(err) != codes.Unavailable {
		if status.Code(err) == codes.DeadlineExceeded {
			return fail(exitTimeout, "%s gave no answer in time (%v)", c.address, c.timeout)
		}
		return err
	}
	switch dialErr, tlsErr := c.seen.last(); {
	case tlsErr != nil:
		return explainTLS(c.address, tlsErr)
	case dialErr != nil:
		return &failure{exitConnection, fmt.Errorf("cannot reach %s: %w", c.address, dialErr)}
	}
	return err
}

// handshakes remembers why the last attempt to connect came to nothing.
type handshakes struct {
	address string // of the machine

	mu      sync.Mutex // guards what follows
	dialErr error
	tlsErr  error
}

func (h *handshakes) last() (dialErr, tlsErr error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dialErr, h.tlsErr
}

func (h *handshakes) set(dialErr, tlsErr error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dialErr, h.tlsErr = dialErr, tlsErr
}

func (h *handshakes) dial(ctx context.Context, _ string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectTimeout}
	c, err := d.DialContext(ctx, "tcp", h.address)
	h.set(err, nil)
	return c, err
}

// watchedTLS tells handshakes how its handshakes end.
type watchedTLS struct {
	credentials.TransportCredentials
	seen *handshakes
}

func (w *watchedTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	w.seen.set(nil, err)
	if err != nil {
		return c, info, err
	}
	return &watchedConn{c, w.seen}, info, nil
}

func (w *watchedTLS) Clone() credentials.TransportCredentials {
	return &watchedTLS{w.TransportCredentials.Clone(), w.seen}
}

// watchedConn notices alerts: a TLS 1.3 server refuses a client certificate only
// after the client's handshake is over.
type watchedConn struct {
	net.Conn
	seen *handshakes
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.notice(err)
	return n, err
}

// Write looks for the alert when the other side has closed: it may have come
// before gRPC begins to read.
func (c *watchedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.SetReadDeadline(time.Now().Add(alertWait))
		_, alert := c.Conn.Read(make([]byte, 1))
		c.notice(alert)
	}
	return n, err
}

func (c *watchedConn) notice(err error) {
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" {
		c.seen.set(nil, err)
	}
}
