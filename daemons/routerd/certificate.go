package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dactyl-os/dactyl/ipc/trust"
)

const (
	// longest is how long a certificate is shown, whenever it ends: by a clock that is
	// behind, one that ends tomorrow seems to end in years.
	longest = 24 * time.Hour
	// firstRetry and lastRetry bound how long to wait before asking trustd again.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
	// lookAgain is how often the wall clock is read: it may be set at any time.
	lookAgain = 30 * time.Second
	// firstCalm and lastCalm bound how long handshakes ask for nothing after a
	// certificate still did not carry the name by which a client came (it is not
	// the machine's, or only the client knows it), or could not be had. Anybody may come by
	// any name, and each certificate is a write to STATE, so not every handshake asks. But
	// the machine may get the next name at any time, and is not reached by it until then, so
	// that none waits for long, whatever others have tried before.
	firstCalm = 10 * time.Second
	lastCalm  = 5 * time.Minute
	// askTimeout is how long one handshake waits for a better certificate.
	askTimeout = 3 * time.Second
)

// identity is what routerd shows, and what it checks clients against.
type identity struct {
	certificate tls.Certificate
	leaf        *x509.Certificate
	authority   *x509.CertPool
	got         time.Time // by the wall clock
}

// due says that it is time for another: two thirds of its life are over, or the
// clock was set back to before it.
func (i *identity) due(now time.Time) bool {
	life := min(i.leaf.NotAfter.Sub(i.got), longest)
	return now.Before(i.got.Add(-time.Minute)) || now.After(i.got.Add(life/3*2))
}

// names says whether the certificate carries the name (or address) of the machine.
func (i *identity) names(name string) bool { return name == "" || i.leaf.VerifyHostname(name) == nil }

// keeper gets the identity and keeps it fresh.
type keeper struct {
	issue func(context.Context, *trust.IssueServerRequest) (*trust.IssueServerResponse, error)
	now   func() time.Time
	log   *slog.Logger
	held  atomic.Pointer[identity] // nil until the first
	ready chan struct{}            // closed with the first

	asking    sync.Mutex // held while a better certificate is asked for; guards what follows
	byAddress calm
	byName    calm
	byClock   calm
}

func newKeeper(issue func(context.Context, *trust.IssueServerRequest) (*trust.IssueServerResponse, error), now func() time.Time, log *slog.Logger) *keeper {
	return &keeper{issue: issue, now: now, log: log, ready: make(chan struct{})}
}

// obtain asks once.
func (k *keeper) obtain(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("make a CSR: %w", err)
	}
	r, err := k.issue(ctx, &trust.IssueServerRequest{Csr: csr})
	if err != nil {
		return fmt.Errorf("ask for a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	authority, err := x509.ParseCertificate(r.Authority)
	if err != nil {
		return fmt.Errorf("read the CA's certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("the certificate is for another key")
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	k.held.Store(&identity{
		certificate: tls.Certificate{Certificate: [][]byte{r.Certificate, r.Authority}, PrivateKey: key, Leaf: leaf},
		leaf:        leaf,
		authority:   pool,
		got:         k.now().Round(0),
	})
	k.log.Info("have a certificate", "names", leaf.DNSNames, "addresses", leaf.IPAddresses, "until", leaf.NotAfter)
	return nil
}

// keep gets the first certificate, however long that takes, and renews it until
// ctx ends.
func (k *keeper) keep(ctx context.Context) error {
	wait := firstRetry
	for k.held.Load() == nil {
		if err := k.obtain(ctx); err != nil {
			k.log.Warn("no certificate yet", "err", err)
			if !sleep(ctx, wait) {
				return ctx.Err()
			}
			wait = min(2*wait, lastRetry)
		}
	}
	close(k.ready)
	for sleep(ctx, lookAgain) {
		if !k.held.Load().due(k.now()) {
			continue
		}
		if err := k.obtain(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("renew the certificate", "err", err)
		}
	}
	return nil
}

// sleep says whether it was not interrupted.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// certificateFor implements tls.Config.GetCertificate. If the certificate does
// not carry the address or name by which the client comes, the machine may have
// got it since, and if it is due, the clock may just have been set: ask again.
func (k *keeper) certificateFor(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	address := localAddress(hello.Conn)
	if i := k.held.Load(); !i.names(address) || !i.names(hello.ServerName) || i.due(k.now()) {
		k.askFor(address, hello.ServerName)
	}
	return &k.held.Load().certificate, nil
}

// askFor asks for a fresh certificate that carries both, unless that was in vain
// not long ago. All handshakes gain by it, so it ends with none of them.
func (k *keeper) askFor(address, name string) {
	k.asking.Lock()
	defer k.asking.Unlock()
	now, i := k.now(), k.held.Load()
	wrongAddress, wrongName, old := !i.names(address), !i.names(name), i.due(now)
	if !(wrongAddress && k.byAddress.over(now)) && !(wrongName && k.byName.over(now)) && !(old && k.byClock.over(now)) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if err := k.obtain(ctx); err != nil {
		k.log.Warn("ask for a certificate with other names", "err", err)
	}
	i = k.held.Load()
	if wrongAddress {
		k.byAddress.asked(now, i.names(address))
	}
	if wrongName {
		k.byName.asked(now, i.names(name))
	}
	if old {
		k.byClock.asked(now, !i.due(now))
	}
}

// again asks for a certificate because the machine was claimed: the claimer has told
// trustd the time, and the one that is shown may have ended by it. The claimer
// has his answer after that, so what he does next meets the new one.
func (k *keeper) again() {
	k.asking.Lock()
	defer k.asking.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if err := k.obtain(ctx); err != nil {
		k.log.Warn("ask for a certificate after the claim", "err", err)
	}
}

// calm is the time after asking in vain; it doubles each time.
type calm struct {
	until time.Time
	last  time.Duration
}

func (c *calm) over(now time.Time) bool { return !now.Before(c.until) }

func (c *calm) asked(now time.Time, helped bool) {
	if helped {
		*c = calm{}
		return
	}
	c.last = min(max(2*c.last, firstCalm), lastCalm)
	c.until = now.Add(c.last)
}

// localAddress returns the machine's address of a connection.
func localAddress(c net.Conn) string {
	if t, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return t.IP.String()
	}
	return ""
}
