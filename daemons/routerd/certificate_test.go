package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dactyl-os/dactyl/ipc/trust"
)

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

// A client that comes by all names there are, for a day, has routerd ask for few
// certificates. When the machine gets a name, clients reach it by that within minutes.
func TestNamesThatAreNotTheMachines(t *testing.T) {
	f := start(t)
	now, asked, names := time.Now(), 0, []string{"old.example"}
	k := newKeeper(func(ctx context.Context, r *trust.IssueServerRequest) (*trust.IssueServerResponse, error) {
		asked++
		return f.ca.issue(append([]string{"10.0.0.1"}, names...)...)(ctx, r)
	}, func() time.Time { return now }, f.server.gateway.log)
	if err := k.obtain(t.Context()); err != nil {
		t.Fatal(err)
	}
	come := func(name string) bool {
		t.Helper()
		c, err := k.certificateFor(&tls.ClientHelloInfo{Conn: addressed{local: "10.0.0.1"}, ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		return err == nil && leaf.VerifyHostname(name) == nil
	}
	const day = 24 * time.Hour
	for end := now.Add(day); now.Before(end); now = now.Add(time.Second) {
		come("other.example")
	}
	if most := int(day/lastCalm) + 10; asked > most {
		t.Errorf("it asked %d times in a day, want at most %d", asked, most)
	}
	names = []string{"new.example"}
	began := now
	for !come("new.example") {
		if now = now.Add(time.Second); now.Sub(began) > 5*time.Minute {
			t.Fatal("after 5 minutes the certificate does not carry the machine's new name")
		}
	}
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
	s := newServer(newGateway(f.server.gateway.table, time.Now, f.server.gateway.log, newGate(again(t, f.port), k, f.server.gateway.log), f.within), newSchema(nil, nil))
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
