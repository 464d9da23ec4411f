package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

const (
	// anonymousLife and anonymousBytes are what a claim needs, and no more.
	anonymousLife  = time.Minute
	anonymousBytes = 64 << 10
)

// session is what the gateway knows of a connection. gRPC hands it to each call.
type session struct {
	credentials.CommonAuthInfo
	caller caller
	member *member // nil for an anonymous client
	conn   *inbound
}

func newSession(c caller, m *member, in *inbound) *session {
	s := &session{caller: c, member: m, conn: in}
	s.SecurityLevel = credentials.PrivacyAndIntegrity
	return s
}

func (*session) AuthType() string { return "tls" }

func keyOf(c *x509.Certificate) certificateKey { return sha256.Sum256(c.Raw) }

// established is a connection whose handshake is done.
type established struct {
	net.Conn
	session *session
}

// established connections need no handshake of gRPC's: sessions passes on what the gate knows.
type sessions struct{ gate *gate }

// ServerHandshake implements credentials.TransportCredentials.
func (s sessions) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	e, ok := c.(*established)
	if !ok {
		return nil, nil, errors.New("BUG: a connection that did not come through the gate")
	}
	s.gate.inHand(e.session.conn)
	return e.Conn, e.session, nil
}

// Info implements credentials.TransportCredentials.
func (sessions) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (s sessions) Clone() credentials.TransportCredentials { return s }

// OverrideServerName implements credentials.TransportCredentials.
func (sessions) OverrideServerName(string) error { return nil }

// ClientHandshake implements credentials.TransportCredentials.
func (sessions) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("BUG: the gateway is not a client")
}

// anonymousConn is the connection of an anonymous client: it ends by itself.
type anonymousConn struct {
	net.Conn
	left atomic.Int64
	life *time.Timer
}

func newAnonymousConn(c net.Conn, life time.Duration) *anonymousConn {
	s := &anonymousConn{Conn: c}
	s.left.Store(anonymousBytes)
	s.life = time.AfterFunc(life, func() { c.Close() })
	return s
}

func (s *anonymousConn) Read(b []byte) (int, error) {
	if s.left.Load() <= 0 {
		return 0, io.EOF
	}
	n, err := s.Conn.Read(b)
	s.left.Add(-int64(n))
	return n, err
}

func (s *anonymousConn) Close() error {
	s.life.Stop()
	return s.Conn.Close()
}
