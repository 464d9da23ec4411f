package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/log"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

var (
	// unlimited is for tests that do not wait for the end of the time that a message has.
	unlimited = arrival{time.Hour, time.Hour}
	short     = arrival{200 * time.Millisecond, 200 * time.Millisecond}
)

const (
	listLinks     = "/" + network.Service + "/ListLinks"
	listRoutes    = "/" + network.Service + "/ListRoutes"
	setHostname   = "/" + machine.Service + "/SetHostname"
	restartDaemon = "/" + machine.Service + "/RestartDaemon"
	reboot        = "/" + machine.Service + "/Reboot"
	readLog       = "/" + log.Service + "/ReadLog"
	replaceDaemon = "/" + dev.Service + "/ReplaceDaemon"
	claim         = "/" + trust.Service + "/Claim"
)

var testRoutes = abi.Routes{Routes: []abi.Route{
	{Path: listLinks, Service: "network", Role: "reader", Idempotent: true},
	{Path: listRoutes, Service: "network", Role: "reader", Idempotent: true},
	{Path: restartDaemon, Service: "machine", Role: "operator"},
	{Path: reboot, Service: "machine", Role: "operator", Idempotent: true},
	{Path: readLog, Service: "log", Role: "reader", ServerStream: true},
	{Path: replaceDaemon, Service: "dev", Role: "admin", ClientStream: true},
	{Path: claim, Service: "trust", Role: "anyone"},
}}

// ca is an OS CA for tests.
type ca struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newCA(t testing.TB) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &ca{t: t, key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Dactyl OS CA"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour * 1000),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

// sign fills in what every leaf has.
func (c *ca) sign(template *x509.Certificate, key any) []byte {
	c.t.Helper()
	template.SerialNumber = big.NewInt(2)
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-24 * time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return der
}

// client makes a client certificate; change may spoil it.
func (c *ca) client(name string, organisation []string, change ...func(*x509.Certificate)) *tls.Certificate {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: organisation}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, f := range change {
		f(template)
	}
	return &tls.Certificate{Certificate: [][]byte{c.sign(template, key.Public())}, PrivateKey: key}
}

// issue is trustd's IssueServer.
func (c *ca) issue(names ...string) func(context.Context, *trust.IssueServerRequest) (*trust.IssueServerResponse, error) {
	return func(_ context.Context, r *trust.IssueServerRequest) (*trust.IssueServerResponse, error) {
		csr, err := x509.ParseCertificateRequest(r.Csr)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		template := &x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		for _, a := range names {
			if ip := net.ParseIP(a); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
			} else {
				template.DNSNames = append(template.DNSNames, a)
			}
		}
		return &trust.IssueServerResponse{Certificate: c.sign(template, csr.PublicKey), Authority: c.cert.Raw}, nil
	}
}

// daemons serves all fakes, on a socket each, as PID 1 holds them: the
// listening ends stay open when a server is replaced.
type daemons struct {
	t       testing.TB
	dir     string
	sockets map[string]*net.UnixListener
	network *fakeNetwork
	server  *ipc.Server
}

var services = map[string][]string{
	network.Service: {"ListLinks", "ListRoutes"}, machine.Service: {"RestartDaemon", "Reboot", "SetHostname"},
	log.Service: {"ReadLog"}, dev.Service: {"ReplaceDaemon"}, trust.Service: {"Claim"},
}

func startDaemons(t testing.TB) *daemons {
	t.Helper()
	d := &daemons{t: t, dir: t.TempDir(), sockets: map[string]*net.UnixListener{}, network: &fakeNetwork{}}
	for _, name := range []string{"network", "machine", "log", "dev", "trust"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(d.dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		t.Cleanup(func() { l.Close() })
		d.sockets[name] = l
	}
	d.start()
	t.Cleanup(d.stop)
	return d
}

func (d *daemons) start() {
	d.t.Helper()
	d.server = ipc.NewServer(nil)
	network.Register(d.server, d.network)
	machine.Register(d.server, fakeMachine{})
	log.Register(d.server, fakeLog{})
	dev.Register(d.server, fakeDev{})
	trust.Register(d.server, fakeTrust{})
	for _, l := range d.sockets {
		if err := d.server.Listen(again(d.t, l), ipc.Caller{Name: "routerd", Methods: services}, func(err error) { d.t.Error(err) }); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *daemons) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.server.Drain(ctx); err != nil {
		d.t.Error(err)
	}
}

// again opens a listening socket a second time, as a new process inherits it.
func again(t testing.TB, l interface{ File() (*os.File, error) }) net.Listener {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type fakeNetwork struct {
	network.Server
	links  []*network.Link
	origin atomic.Pointer[ipc.Origin] // of the last ListLinks
}

func (f *fakeNetwork) ListLinks(ctx context.Context, _ *network.ListLinksRequest) (*network.ListLinksResponse, error) {
	o := ipc.OriginOf(ctx)
	f.origin.Store(&o)
	return &network.ListLinksResponse{Links: f.links}, nil
}

// ListRoutes takes longer than anybody waits.
func (*fakeNetwork) ListRoutes(ctx context.Context, _ *network.ListRoutesRequest) (*network.ListRoutesResponse, error) {
	select {
	case <-ctx.Done():
	case <-time.After(500 * time.Millisecond):
	}
	return nil, ctx.Err()
}

type fakeMachine struct{ machine.Server }

// RestartDaemon fails with a detail.
func (fakeMachine) RestartDaemon(_ context.Context, r *machine.RestartDaemonRequest) (*machine.RestartDaemonResponse, error) {
	s := status.New(codes.NotFound, "no daemon "+r.Name)
	detail, err := anypb.New(r)
	if err != nil {
		return nil, err
	}
	p := s.Proto()
	p.Details = append(p.Details, detail)
	return nil, status.FromProto(p).Err()
}

func (fakeMachine) Reboot(context.Context, *machine.RebootRequest) (*machine.RebootResponse, error) {
	return &machine.RebootResponse{}, nil
}

type fakeLog struct{ log.Server }

// ReadLog sends a hundred lines, the first of them empty.
func (fakeLog) ReadLog(ctx context.Context, r *log.ReadLogRequest, to ipc.Sender[*log.Line]) error {
	switch r.Daemon {
	case "nobody":
		return status.Error(codes.NotFound, "no daemon nobody")
	case "empty":
		return nil
	}
	for i := range 100 {
		if err := to.Send(&log.Line{Text: string(bytes.Repeat([]byte{'x'}, i))}); err != nil {
			return err
		}
	}
	if r.Follow {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

type fakeDev struct{ dev.Server }

// ReplaceDaemon counts bytes; the name "early" ends it at once.
func (fakeDev) ReplaceDaemon(_ context.Context, from ipc.Receiver[*dev.ReplaceDaemonRequest]) (*dev.ReplaceDaemonResponse, error) {
	n := 0
	for {
		m, err := from.Recv()
		switch {
		case err == io.EOF:
			return &dev.ReplaceDaemonResponse{Pid: int32(n)}, nil
		case err != nil:
			return nil, err
		case m.Name == "early":
			return nil, status.Error(codes.FailedPrecondition, "not now")
		}
		n += len(m.Chunk)
	}
}

type fakeTrust struct{ trust.Server }

func (fakeTrust) Claim(context.Context, *trust.ClaimRequest) (*trust.ClaimResponse, error) {
	return &trust.ClaimResponse{Confirm: []byte("yes")}, nil
}

// fixture is a gateway with everything around it.
type fixture struct {
	*daemons
	ca      *ca
	port    *net.TCPListener
	address string
	log     *lines
	server  *server
	within  arrival
}

func start(t testing.TB) *fixture {
	t.Helper()
	return startWithin(t, unlimited)
}

// startWithin starts a gateway with other limits of time for a message.
func startWithin(t testing.TB, within arrival) *fixture {
	t.Helper()
	port, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	f := &fixture{daemons: startDaemons(t), ca: newCA(t), port: port, address: port.Addr().String(), log: &lines{}, within: within}
	f.server = f.gateway(t)
	return f
}

// gateway starts another gateway on the same port.
func (f *fixture) gateway(t testing.TB) *server {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(f.log, nil))
	tab, err := newTable(testRoutes, func(service string) ipc.Conn { return ipc.NewPeer(service, filepath.Join(f.dir, service)) })
	if err != nil {
		t.Fatal(err)
	}
	k := newKeeper(f.ca.issue("127.0.0.1"), time.Now, logger)
	at := newGate(again(t, f.port), k, logger)
	if f.within != arriveWithin {
		at.life = f.within.ofAnonymous
	}
	s := newServer(newGateway(tab, time.Now, logger, at, f.within), newSchema(func() (protodesc.Resolver, error) { return protoregistry.GlobalFiles, nil }, tab))
	ctx, cancel := context.WithCancel(context.Background())
	var jobs sync.WaitGroup
	jobs.Go(func() { k.keep(ctx) })
	jobs.Go(func() {
		if err := s.run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		stop(s)
		jobs.Wait()
	})
	return s
}

func stop(s *server) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	s.stop(ctx)
}

// dial connects as a client with this certificate, nil for none.
func (f *fixture) dial(certificate *tls.Certificate, options ...grpc.DialOption) *grpc.ClientConn {
	f.t.Helper()
	options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(f.clientConfig(certificate))))
	c, err := grpc.NewClient(f.address, options...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

func (f *fixture) clientConfig(certificate *tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(f.ca.cert)
	config := &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}}
	if certificate != nil {
		// Whatever CAs the server would like: the tests send wrong ones on purpose.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return config
}

// lines is a log to look into.
type lines struct {
	discard atomic.Bool

	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	if l.discard.Load() {
		return len(p), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// eventually waits until f is true.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it did not come to that within %v", patience)
		}
	}
}

// inUse is what clients with a valid certificate have in progress.
type inUse struct{ conns, calls, large int }

func (f *fixture) inUse() inUse {
	l := f.server.gate.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	return inUse(l.used)
}
