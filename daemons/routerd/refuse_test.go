package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// Each way of being refused has its code and says what would be right.
func TestRefusals(t *testing.T) {
	f := start(t)
	var (
		readers   = f.ca.client("bob", []string{"reader"})
		operators = f.ca.client("ole", []string{"operator"})
		admins    = f.ca.client("ada", []string{"admin"})
		roleless  = f.ca.client("rob", nil)
		odd       = f.ca.client("odd", []string{"root"})
		anyones   = f.ca.client("any", []string{"anyone"})
		double    = f.ca.client("two", []string{"reader", "admin"})
		expired   = f.ca.client("old", []string{"admin"}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
		early     = f.ca.client("early", []string{"admin"}, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
		server    = f.ca.client("srv", []string{"admin"}, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		foreign   = newCA(t).client("eve", []string{"admin"})
		self      = selfSigned(t)
	)
	for _, c := range []struct {
		who  string
		cert *tls.Certificate
		path string
		code codes.Code
		says string
	}{
		{"reader", readers, listLinks, codes.OK, ""},
		{"admin", admins, listLinks, codes.OK, ""},
		{"admin", admins, reboot, codes.OK, ""},
		{"operator", operators, reboot, codes.OK, ""},
		{"nobody", nil, claim, codes.OK, ""},
		{"foreign", foreign, claim, codes.OK, ""},
		{"reader", readers, claim, codes.OK, ""},
		{"nobody", nil, listLinks, codes.Unauthenticated, "needs a client certificate"},
		{"expired", expired, listLinks, codes.Unauthenticated, `"old" expired on `},
		{"early", early, listLinks, codes.Unauthenticated, "this machine's clock says"},
		{"foreign", foreign, listLinks, codes.Unauthenticated, "another CA"},
		{"self-signed", self, listLinks, codes.Unauthenticated, "another CA"},
		{"server's", server, listLinks, codes.Unauthenticated, "not a client's"},
		{"roleless", roleless, listLinks, codes.PermissionDenied, "carries no role"},
		{"odd role", odd, listLinks, codes.PermissionDenied, "carries no role"},
		{"role anyone", anyones, listLinks, codes.PermissionDenied, "carries no role"},
		{"two roles", double, listLinks, codes.PermissionDenied, "carries no role"},
		{"reader", readers, reboot, codes.PermissionDenied, `"bob" is reader, and Reboot needs the role operator`},
		{"operator", operators, replaceDaemon, codes.PermissionDenied, "needs the role admin"},
		{"admin", admins, setHostname, codes.Unimplemented, setHostname}, // it exists, for networkd
		{"admin", admins, "/dactyl.network.v1.Network/Fly", codes.Unimplemented, "/dactyl.network.v1.Network/Fly"},
		{"admin", admins, "/grpc.health.v1.Health/Fly", codes.Unimplemented, "Fly"},
		{"nobody", nil, "/no.Such/Thing", codes.Unimplemented, "/no.Such/Thing"},
	} {
		t.Run(c.who+" calls "+methodOf(c.path), func(t *testing.T) {
			err := f.dial(c.cert).Invoke(t.Context(), c.path, &emptypb.Empty{}, &emptypb.Empty{})
			if status.Code(err) != c.code || err != nil && !strings.Contains(status.Convert(err).Message(), c.says) {
				t.Errorf("got %v\nwant %v … %s", err, c.code, c.says)
			}
		})
	}
}

func selfSigned(t *testing.T) *tls.Certificate {
	c := newCA(t)
	return &tls.Certificate{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key}
}

// A certificate that ends while its connection lives ends the right with it.
func TestExpiryOnAnOpenConnection(t *testing.T) {
	c := caller{name: "bob", role: auth.Role_ROLE_ADMIN, until: time.Unix(1000, 0)}
	if err := c.may(listLinks, auth.Role_ROLE_READER, time.Unix(1000, 0)); err != nil {
		t.Error(err)
	}
	if err := c.may(listLinks, auth.Role_ROLE_READER, time.Unix(1001, 0)); status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}

// 4 MiB each way; what is larger is refused with the number, and disturbs nobody.
func TestSizes(t *testing.T) {
	f := start(t)
	c := f.dial(f.ca.client("ada", []string{"admin"}), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	const envelope = 1024 // more than ttrpc adds
	for bytes, code := range map[int]codes.Code{4<<20 - envelope: codes.OK, 4<<20 - 10: codes.ResourceExhausted, 5 << 20: codes.ResourceExhausted, 32 << 20: codes.ResourceExhausted} {
		name := strings.Repeat("x", bytes)
		err := c.Invoke(t.Context(), reboot, &machine.RestartDaemonRequest{Name: name}, &emptypb.Empty{})
		if status.Code(err) != code || err != nil && !strings.Contains(err.Error(), "4194304") {
			t.Errorf("request of %d bytes: %v", bytes, err)
		}
	}
	f.network.links = []*network.Link{{Name: strings.Repeat("x", 4<<20-envelope)}}
	if err := c.Invoke(t.Context(), listLinks, &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Errorf("an answer of 4 MiB: %v", err)
	}
	f.network.links = []*network.Link{{Name: strings.Repeat("x", 5<<20)}}
	if err := c.Invoke(t.Context(), listLinks, &emptypb.Empty{}, &emptypb.Empty{}); err == nil {
		t.Error("an answer of 5 MiB came through")
	}
	f.network.links = nil
	if err := c.Invoke(t.Context(), listLinks, &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Errorf("a small call after: %v", err)
	}
}

// The connection of an anonymous client ends by itself.
func TestAnonymousLife(t *testing.T) {
	f := startWithin(t, short)
	c, err := tls.Dial("tcp", f.address, f.clientConfig(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("the connection stays open")
	}
}

// Requests that are never finished end with the reason, and leave nothing.
func TestUnfinishedRequests(t *testing.T) {
	f := startWithin(t, short)
	slow := f.dial(f.ca.client("slow", []string{"reader"}))
	var open []grpc.ClientStream
	for range 10 {
		c, err := slow.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, listLinks)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for _, c := range open {
		if err := c.RecvMsg(new(network.ListLinksResponse)); status.Code(err) != codes.DeadlineExceeded {
			t.Fatalf("unfinished request: %v, want DeadlineExceeded", err)
		}
	}
	eventually(t, func() bool { return f.inUse() == inUse{conns: 1} })
}

// Whatever is sent to the port costs the sender his connection, and nobody else.
func TestGarbage(t *testing.T) {
	f := start(t)
	noise := make([]byte, 64<<10)
	rand.Read(noise)
	for _, g := range []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"noise", noise},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		{"HTTP/2 in clear", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
		{"a handshake's beginning", []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc}},
	} {
		c, err := net.Dial("tcp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(g.b)
		c.(*net.TCPConn).CloseWrite()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection stays open", g.name)
		}
		c.Close()
	}
	// The same behind a good handshake.
	c, err := tls.Dial("tcp", f.address, f.clientConfig(f.ca.client("bob", []string{"reader"})))
	if err != nil {
		t.Fatal(err)
	}
	c.Write(noise)
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("noise in TLS: the connection stays open")
	}
	for range 200 {
		if c, err := net.Dial("tcp", f.address); err == nil {
			c.Write(noise[:100])
			c.Close()
		}
	}
	// Until the gateway has seen the flood's connections end, its source has had its share.
	after := f.dial(f.ca.client("bob", []string{"reader"}))
	eventually(t, func() bool {
		return after.Invoke(t.Context(), listLinks, &emptypb.Empty{}, &emptypb.Empty{}) == nil
	})
	if n := strings.Count(f.log.String(), "connection refused"); n == 0 || n > 50 {
		t.Errorf("%d lines in the log", n)
	}
}

// TLS 1.2 and clients without HTTP/2 get nowhere.
func TestHandshakes(t *testing.T) {
	f := start(t)
	for _, change := range []func(*tls.Config){
		func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		func(c *tls.Config) { c.NextProtos = nil },
		func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
	} {
		config := f.clientConfig(nil)
		change(config)
		c, err := tls.Dial("tcp", f.address, config)
		if err != nil {
			continue
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%v: the connection stays open", config)
		}
		c.Close()
	}
}

// An anonymous client cannot send much, nor come in numbers, and does not keep others out.
func TestAnonymousClients(t *testing.T) {
	f := start(t)
	for bytes, code := range map[int]codes.Code{12 << 10: codes.OK, 20 << 10: codes.ResourceExhausted} {
		if err := f.dial(nil).Invoke(t.Context(), claim, &trust.ClaimRequest{Csr: make([]byte, bytes)}, &trust.ClaimResponse{}); status.Code(err) != code {
			t.Errorf("a claim of %d bytes: %v, want %v", bytes, err, code)
		}
	}
	// A certificate that gives no right does not make the client more than anonymous.
	expired := f.ca.client("old", []string{"admin"}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	for name, certificate := range map[string]*tls.Certificate{"none": nil, "expired": expired, "no role": f.ca.client("rob", nil), "another CA": selfSigned(t)} {
		if err := f.dial(certificate).Invoke(t.Context(), claim, &trust.ClaimRequest{Csr: make([]byte, 20<<10)}, &trust.ClaimResponse{}); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("certificate %s: a claim of 20 KiB: %v", name, err)
		}
	}
	for range maxAnonymous + 16 {
		c, err := tls.Dial("tcp", f.address, f.clientConfig(nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err != nil { // the server's settings
			t.Errorf("a newcomer: %v", err)
		}
	}
	g := f.server.gate
	g.mu.Lock()
	if n := len(g.anonymous.conns); n != maxAnonymous {
		t.Errorf("%d connections of anonymous clients, want %d", n, maxAnonymous)
	}
	g.mu.Unlock()
	if err := f.dial(f.ca.client("bob", []string{"reader"})).Invoke(t.Context(), listLinks, &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Errorf("bob: %v", err)
	}
}

// One certificate has a limited number of connections, from wherever they come.
func TestConnectionsOfOneCertificate(t *testing.T) {
	f := start(t)
	config := f.clientConfig(f.ca.client("bob", []string{"reader"}))
	var open []net.Conn
	served := func() bool {
		c, err := tls.Dial("tcp", f.address, config)
		if err != nil {
			return false
		}
		open = append(open, c)
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
		return err == nil
	}
	for n := range connections.ofOne {
		if !served() {
			t.Fatalf("connection %d is not served", n)
		}
	}
	if served() {
		t.Errorf("one more than %d connections", connections.ofOne)
	}
	for _, c := range open {
		c.Close()
	}
	eventually(t, func() bool { return f.inUse() == inUse{} })
	if len(f.server.gate.limits.members) != 0 {
		t.Error("the certificate is not forgotten")
	}
	if !served() {
		t.Error("not served when the others are gone")
	}
}
