package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

const (
	// strangerLife and strangerBytes are what a claim needs, and no more.
	strangerLife  = time.Minute
	strangerBytes = 64 << 10
)

// session is what the gateway knows of a connection. gRPC hands it to each call.
type session struct {
	credentials.CommonAuthInfo
	caller caller
}

func (*session) AuthType() string { return "tls" }

// handshakes makes sessions of connections; it is gRPC's idea of credentials.
type handshakes struct {
	keeper *keeper
	config *tls.Config
	gate   *gate
	log    *slog.Logger
	failed *trickle
}

func newHandshakes(k *keeper, g *gate, log *slog.Logger) *handshakes {
	return &handshakes{keeper: k, gate: g, log: log, failed: new(trickle), config: &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequestClientCert, // callerOf judges it
		GetCertificate: k.certificateFor,
		NextProtos:     []string{"h2"},
		// A ticket would carry an old judgement of the certificate into a new connection.
		SessionTicketsDisabled: true,
	}}
}

// ServerHandshake implements credentials.TransportCredentials. gRPC has set the
// connection's deadline.
func (h *handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	h.gate.entered(raw)
	conn, s, err := h.shake(raw)
	if err != nil {
		raw.Close()
		if h.failed.pass(h.log) {
			h.log.Info("connection refused", "from", raw.RemoteAddr(), "err", err)
		}
		return nil, nil, err
	}
	return conn, s, nil
}

func (h *handshakes) shake(raw net.Conn) (net.Conn, *session, error) {
	conn := tls.Server(raw, h.config)
	if err := conn.Handshake(); err != nil {
		return nil, nil, fmt.Errorf("TLS handshake: %w", err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != "h2" {
		return nil, nil, errors.New("TLS handshake: the client does not offer HTTP/2 (ALPN h2)")
	}
	s := &session{caller: callerOf(state.PeerCertificates, h.keeper.held.Load().authority)}
	s.SecurityLevel = credentials.PrivacyAndIntegrity
	if s.caller.refusal == nil {
		return conn, s, nil
	}
	if !h.gate.takeStranger(raw) {
		return nil, nil, errors.New("too many connections without a valid certificate")
	}
	return newStrangerConn(conn), s, nil
}

// Info implements credentials.TransportCredentials.
func (*handshakes) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (h *handshakes) Clone() credentials.TransportCredentials { return h }

// OverrideServerName implements credentials.TransportCredentials.
func (*handshakes) OverrideServerName(string) error { return nil }

// ClientHandshake implements credentials.TransportCredentials.
func (*handshakes) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("BUG: the gateway is nobody's client")
}

// strangerConn is the connection of a stranger: it ends by itself.
type strangerConn struct {
	net.Conn
	left atomic.Int64
	life *time.Timer
}

func newStrangerConn(c net.Conn) *strangerConn {
	s := &strangerConn{Conn: c}
	s.left.Store(strangerBytes)
	s.life = time.AfterFunc(strangerLife, func() { c.Close() })
	return s
}

func (s *strangerConn) Read(b []byte) (int, error) {
	if s.left.Load() <= 0 {
		return 0, io.EOF
	}
	n, err := s.Conn.Read(b)
	s.left.Add(-int64(n))
	return n, err
}

func (s *strangerConn) Close() error {
	s.life.Stop()
	return s.Conn.Close()
}
