//lint:file-ignore SA1019 reflection v1alpha is deprecated; older clients speak it, so it is served and tested

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/log"
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
	c := caller{name: "bob", role: admin, until: time.Unix(1000, 0)}
	if err := c.may(listLinks, reader, time.Unix(1000, 0)); err != nil {
		t.Error(err)
	}
	if err := c.may(listLinks, reader, time.Unix(1001, 0)); status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}

// Answers, errors, details and deadlines arrive as the daemon gave them.
func TestUnary(t *testing.T) {
	f := start(t)
	c := f.dial(f.ca.client("ada", []string{"admin"}))
	f.network.links = []*network.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0"}}
	got := new(network.ListLinksResponse)
	if err := c.Invoke(t.Context(), listLinks, &network.ListLinksRequest{}, got); err != nil || len(got.Links) != 2 || got.Links[1].Name != "eth0" {
		t.Errorf("got %v, %v", got, err)
	}

	err := c.Invoke(t.Context(), restartDaemon, &machine.RestartDaemonRequest{Name: "nobody"}, new(machine.RestartDaemonResponse))
	details := status.Convert(err).Details()
	if status.Code(err) != codes.NotFound || len(details) != 1 || !proto.Equal(details[0].(proto.Message), &machine.RestartDaemonRequest{Name: "nobody"}) {
		t.Errorf("error %v with details %v", err, details)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Invoke(ctx, listRoutes, &network.ListRoutesRequest{}, new(network.ListRoutesResponse)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call that is not answered in time: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := c.Invoke(ctx, listRoutes, &network.ListRoutesRequest{}, new(network.ListRoutesResponse)); status.Code(err) != codes.Canceled {
		t.Errorf("a call that is cancelled: %v", err)
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

// Whoever opens calls and never finishes their requests keeps nobody else out, holds
// no more than its places, and is told so in the end.
func TestUnfinishedRequests(t *testing.T) {
	f := start(t)
	slow := f.dial(f.ca.client("slow", []string{"reader"}))
	var calls []grpc.ClientStream
	for range 2 * maxArriving {
		c, err := slow.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, listLinks)
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, c)
	}
	a := f.server.gateway.arriving
	eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.of["slow"] == maxArrivingOfOne
	})
	other := f.dial(f.ca.client("other", []string{"reader"}))
	if err := other.Invoke(t.Context(), listLinks, &network.ListLinksRequest{}, new(network.ListLinksResponse)); err != nil {
		t.Errorf("another caller meanwhile: %v", err)
	}
	for _, c := range calls {
		if err := c.RecvMsg(new(network.ListLinksResponse)); status.Code(err) != codes.DeadlineExceeded {
			t.Fatalf("unfinished request: %v, want DeadlineExceeded", err)
		}
	}
	eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.all == 0 && len(a.of) == 0
	})
}

// eventually waits until f is true.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not come to that within 20 s")
		}
	}
}

func TestServerStream(t *testing.T) {
	f := start(t)
	c := f.dial(f.ca.client("bob", []string{"reader"}))
	read := func(ctx context.Context, r *log.ReadLogRequest) (int, error) {
		s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, readLog)
		if err != nil {
			return 0, err
		}
		if err := s.SendMsg(r); err != nil {
			return 0, err
		}
		s.CloseSend()
		for n := 0; ; n++ {
			m := new(log.Line)
			if err := s.RecvMsg(m); err != nil {
				return n, err
			}
			if len(m.Text) != n {
				t.Errorf("line %d is %q", n, m.Text)
			}
		}
	}
	if n, err := read(t.Context(), &log.ReadLogRequest{Daemon: "networkd"}); n != 100 || err != io.EOF {
		t.Errorf("%d lines, %v", n, err)
	}
	if n, err := read(t.Context(), &log.ReadLogRequest{Daemon: "empty"}); n != 0 || err != io.EOF {
		t.Errorf("%d lines, %v", n, err)
	}
	if n, err := read(t.Context(), &log.ReadLogRequest{Daemon: "nobody"}); n != 0 || status.Code(err) != codes.NotFound {
		t.Errorf("%d lines, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if n, err := read(ctx, &log.ReadLogRequest{Daemon: "networkd", Follow: true}); n != 100 || status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%d lines, %v", n, err)
	}
	time.AfterFunc(200*time.Millisecond, func() { stop(f.server) })
	if n, err := read(t.Context(), &log.ReadLogRequest{Daemon: "networkd", Follow: true}); n != 100 || status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "call again") {
		t.Errorf("while the gateway is replaced: %d lines, %v", n, err)
	}
}

func TestClientStream(t *testing.T) {
	f := start(t)
	c := f.dial(f.ca.client("ada", []string{"admin"}))
	upload := func(name string, chunks int) (int32, error) {
		s, err := c.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, replaceDaemon)
		if err != nil {
			return 0, err
		}
		for i := range chunks {
			m := &dev.ReplaceDaemonRequest{Chunk: make([]byte, 1<<20)}
			if i == 0 {
				m.Name = name
			}
			if err := s.SendMsg(m); err == io.EOF {
				break
			} else if err != nil {
				return 0, err
			}
		}
		s.CloseSend()
		answer := new(dev.ReplaceDaemonResponse)
		err = s.RecvMsg(answer)
		return answer.Pid, err
	}
	if n, err := upload("networkd", 20); n != 20<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := upload("networkd", 0); n != 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := upload("early", 20); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a daemon that has enough: %v", err)
	}
}

// Every call is a line.
func TestLog(t *testing.T) {
	f := start(t)
	f.dial(f.ca.client("bob", []string{"reader"})).Invoke(t.Context(), reboot, &emptypb.Empty{}, &emptypb.Empty{})
	for _, part := range []string{"caller=bob", "role=reader", "from=127.0.0.1:", "method=" + reboot, "status=PermissionDenied", "took="} {
		if !strings.Contains(f.log.String(), part) {
			t.Errorf("%s is not in the log:\n%s", part, f.log)
		}
	}
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

// A stranger cannot send us much, nor come in numbers, and does not keep others out.
func TestStrangers(t *testing.T) {
	f := start(t)
	if err := f.dial(nil).Invoke(t.Context(), claim, &trust.ClaimRequest{Csr: make([]byte, 60<<10)}, &trust.ClaimResponse{}); err != nil {
		t.Errorf("a claim of 60 KiB: %v", err)
	}
	if err := f.dial(nil).Invoke(t.Context(), claim, &trust.ClaimRequest{Csr: make([]byte, 1<<20)}, &trust.ClaimResponse{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a claim of 1 MiB: %v", err)
	}
	var open int
	for range 3 * maxStrangersOfOne {
		c, err := tls.Dial("tcp", f.address, f.clientConfig(nil))
		if err != nil {
			continue
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil { // the server's settings
			open++
		}
	}
	if open > maxStrangersOfOne || open < maxStrangersOfOne-2 {
		t.Errorf("%d connections of one stranger", open)
	}
	if err := f.dial(f.ca.client("bob", []string{"reader"})).Invoke(t.Context(), listLinks, &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Errorf("bob: %v", err)
	}
}

func TestGateLimits(t *testing.T) {
	f := start(t)
	conns := make([]net.Conn, maxConnsOfOne+8)
	for i := range conns {
		c, err := net.Dial("tcp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = c
	}
	turned := 0
	for _, c := range conns[maxConnsOfOne:] {
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != nil && !strings.Contains(err.Error(), "timeout") {
			turned++
		}
	}
	if turned != 8 {
		t.Errorf("%d of 8 connections too many were turned away", turned)
	}
	for _, c := range conns {
		c.Close()
	}
	if err := f.dial(f.ca.client("bob", []string{"reader"})).Invoke(t.Context(), listLinks, &emptypb.Empty{}, &emptypb.Empty{}, grpc.WaitForReady(true)); err != nil {
		t.Errorf("when they are gone: %v", err)
	}
}

func TestHealth(t *testing.T) {
	f := start(t)
	h := healthpb.NewHealthClient(f.dial(nil))
	if r, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v", r, err)
	}
	w, err := h.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := w.Recv(); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v", r, err)
	}
}

// Reflection tells a reader what can be called, and its types; a stranger nothing.
func TestReflection(t *testing.T) {
	f := start(t)
	want := []string{"dactyl.dev.v1.Dev", "dactyl.log.v1.Log", "dactyl.machine.v1.Machine", "dactyl.network.v1.Network", "dactyl.trust.v1.Trust", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
	c := f.dial(f.ca.client("bob", []string{"reader"}))
	s, err := reflectionpb.NewServerReflectionClient(c).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		t.Helper()
		if err := s.Send(r); err != nil {
			t.Fatal(err)
		}
		got, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var got []string
	for _, one := range ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService() {
		got = append(got, one.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("services are %q, want %q", got, want)
	}
	for _, symbol := range want[:5] {
		r := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
		if len(r.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
			t.Errorf("%s: %v", symbol, r)
		}
	}
	s.CloseSend()

	alpha, err := reflectionalphapb.NewServerReflectionClient(c).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	alpha.Send(&reflectionalphapb.ServerReflectionRequest{MessageRequest: &reflectionalphapb.ServerReflectionRequest_ListServices{}})
	if r, err := alpha.Recv(); err != nil || len(r.GetListServicesResponse().GetService()) != len(want) {
		t.Errorf("v1alpha: %v, %v", r, err)
	}
	alpha.CloseSend()

	stranger, err := reflectionpb.NewServerReflectionClient(f.dial(nil)).ServerReflectionInfo(t.Context())
	if err == nil {
		_, err = stranger.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("a stranger: %v", err)
	}
}

// load is eight clients that make about a thousand calls a second, each every
// other to another daemon.
type load struct {
	t       *testing.T
	clients sync.WaitGroup
	done    chan struct{}

	mu    sync.Mutex // guards what follows
	count int
	lost  []error
	more  sync.Cond // count has grown
}

func (f *fixture) load(t *testing.T) *load {
	const clients, rate = 8, 1000
	l := &load{t: t, done: make(chan struct{})}
	l.more.L = &l.mu
	for range clients {
		c := f.dial(f.ca.client("ole", []string{"operator"}))
		l.clients.Go(func() {
			tick := time.NewTicker(time.Second * clients / rate)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-l.done:
					return
				case <-tick.C:
				}
				l.add(c.Invoke(context.Background(), []string{listLinks, reboot}[i%2], &emptypb.Empty{}, &emptypb.Empty{}))
			}
		})
	}
	l.wait(100)
	return l
}

func (l *load) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if err != nil {
		l.lost = append(l.lost, err)
	}
	l.more.Broadcast()
}

// wait returns after so many more calls.
func (l *load) wait(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n += l.count; l.count < n; {
		l.more.Wait()
	}
}

// end stops the clients; none of their calls may have been lost.
func (l *load) end() {
	close(l.done)
	l.clients.Wait()
	l.t.Logf("%d calls", l.count)
	if len(l.lost) > 0 {
		l.t.Errorf("%d of %d calls lost: %v", len(l.lost), l.count, l.lost[0])
	}
}

// A daemon is replaced under load: no call is lost.
func TestDaemonReplaced(t *testing.T) {
	f := start(t)
	l := f.load(t)
	for range 10 {
		old := f.daemons.server
		f.daemons.start() // both serve for a moment
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := old.Drain(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		l.wait(200)
	}
	l.end()
}

// The gateway itself is replaced under load: no call is lost.
func TestGatewayReplaced(t *testing.T) {
	f := start(t)
	l := f.load(t)
	current := f.server
	for range 10 {
		next := f.gateway(t)
		<-next.keeper.ready
		begin := time.Now()
		stop(current)
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("the old one took %v to end", took)
		}
		current = next
		l.wait(200)
	}
	l.end()
}

// When the machine gets an address, the certificate carries it at the first handshake.
func TestCertificateFollowsAddresses(t *testing.T) {
	f := start(t)
	now := time.Now()
	k := newKeeper(f.ca.issue("10.0.0.1"), func() time.Time { return now }, f.server.gateway.log)
	asked := 0
	count := func(issue func(context.Context, *trust.IssueServerRequest) (*trust.IssueServerResponse, error)) {
		k.issue = func(ctx context.Context, r *trust.IssueServerRequest) (*trust.IssueServerResponse, error) {
			asked++
			return issue(ctx, r)
		}
	}
	count(f.ca.issue("10.0.0.1"))
	if err := k.obtain(t.Context()); err != nil {
		t.Fatal(err)
	}
	come := func(address string, want int) {
		t.Helper()
		before := asked
		if _, err := k.certificateFor(&tls.ClientHelloInfo{Conn: addressed{local: address}}); err != nil {
			t.Fatal(err)
		}
		if asked-before != want {
			t.Errorf("a client by %s: asked %d times, want %d", address, asked-before, want)
		}
	}
	come("10.0.0.1", 0)
	count(f.ca.issue("10.0.0.1", "10.0.0.2"))
	come("10.0.0.2", 1)
	come("10.0.0.2", 0)
	come("192.168.0.9", 1) // not ours to have
	come("192.168.0.9", 0)
	now = now.Add(firstCalm)
	come("192.168.0.9", 1)
	now = now.Add(firstCalm)
	come("192.168.0.9", 0)
}

// Who claims a machine tells it the time, so the next he sees is another certificate; and
// one is shown for a day at most, though by a clock that is behind it lasts for years.
func TestCertificateFollowsTheClaim(t *testing.T) {
	f := start(t)
	if err := f.dial(nil).Invoke(t.Context(), claim, &trust.ClaimRequest{}, &trust.ClaimResponse{}); err != nil {
		t.Fatal(err)
	}
	before := f.server.keeper.held.Load()
	if err := f.dial(nil).Invoke(t.Context(), claim, &trust.ClaimRequest{}, &trust.ClaimResponse{}); err != nil {
		t.Fatal(err)
	}
	now := f.server.keeper.held.Load()
	if now == before {
		t.Error("the certificate is the one from before the claim")
	}
	behind := &identity{leaf: now.leaf, got: now.leaf.NotAfter.AddDate(-2, 0, 0)}
	if behind.due(behind.got.Add(time.Hour)) || !behind.due(behind.got.Add(17*time.Hour)) {
		t.Error("a clock that is two years behind changes how long a certificate is shown")
	}
}

// A machine without a battery gets its certificate by a clock that is years
// behind: when the clock is set, the next client must not be shown one that has ended.
func TestCertificateFollowsTheClock(t *testing.T) {
	f := start(t)
	now := time.Now().AddDate(-10, 0, 0)
	issue, asked := f.ca.issue("10.0.0.1"), 0
	var trouble error
	k := newKeeper(func(ctx context.Context, r *trust.IssueServerRequest) (*trust.IssueServerResponse, error) {
		if asked++; trouble != nil {
			return nil, trouble
		}
		return issue(ctx, r)
	}, func() time.Time { return now }, f.server.gateway.log)
	if err := k.obtain(t.Context()); err != nil {
		t.Fatal(err)
	}
	come := func(want int) {
		t.Helper()
		before := asked
		if _, err := k.certificateFor(&tls.ClientHelloInfo{Conn: addressed{local: "10.0.0.1"}}); err != nil {
			t.Fatal(err)
		}
		if asked-before != want {
			t.Errorf("asked %d times, want %d", asked-before, want)
		}
	}
	come(0)
	now, trouble = time.Now(), errors.New("trustd is away")
	come(1)
	come(0)
	now, trouble = now.Add(firstCalm), nil
	come(1)
	come(0)
}

func TestRenewal(t *testing.T) {
	got := time.Unix(1_800_000_000, 0)
	i := &identity{got: got, leaf: &x509.Certificate{NotAfter: got.Add(24 * time.Hour)}}
	for after, due := range map[time.Duration]bool{0: false, 15 * time.Hour: false, 17 * time.Hour: true, 1000 * time.Hour: true, -10 * time.Second: false, -time.Hour: true} {
		if i.due(got.Add(after)) != due {
			t.Errorf("after %v: due is %v", after, !due)
		}
	}
}

// trustd may take its time; until then nobody is turned away.
func TestNoCertificateYet(t *testing.T) {
	f := start(t)
	var fails atomic.Int64
	fails.Store(3)
	stop(f.server)
	issue := f.ca.issue("127.0.0.1")
	k := newKeeper(func(ctx context.Context, r *trust.IssueServerRequest) (*trust.IssueServerResponse, error) {
		if fails.Add(-1) >= 0 {
			return nil, status.Error(codes.Unavailable, "not yet")
		}
		return issue(ctx, r)
	}, time.Now, f.server.gateway.log)
	s := newServer(&gateway{table: f.server.gateway.table, now: time.Now, log: f.server.gateway.log, arriving: newArrivals(testArrival)}, newSchema(nil, nil), k, newGate(again(t, f.port), f.server.gateway.log))
	ctx, cancel := context.WithCancel(t.Context())
	var jobs sync.WaitGroup
	jobs.Go(func() { k.keep(ctx) })
	jobs.Go(func() { s.run(ctx) })
	defer jobs.Wait()
	defer stop(s)
	defer cancel()
	if err := f.dial(f.ca.client("bob", []string{"reader"})).Invoke(ctx, listLinks, &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Error(err)
	}
}

type addressed struct {
	net.Conn
	local string
}

func (a addressed) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(a.local)} }

// Messages of every size survive unread.
func TestCodec(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1 << 20} {
		want := make([]byte, n)
		rand.Read(want)
		b, err := codec{}.Marshal(&frame{want})
		if err != nil {
			t.Fatal(err)
		}
		var got frame
		if err := (codec{}).Unmarshal(b, &got); err != nil || !bytes.Equal(got.b, want) {
			t.Errorf("%d bytes: %v", n, err)
		}
		m := ipc.Raw(got.b)
		if again, err := proto.Marshal(m); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%d bytes through ipc: %v", n, err)
		}
	}
	if _, err := (codec{}).Marshal(fmt.Errorf("x")); err == nil {
		t.Error("encodes anything")
	}
}
