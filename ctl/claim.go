package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

const claimLong = `Become the admin of a machine that has none yet.

The machine shows a pairing code on its console and serial line. It proves both
sides to each other: the machine is known by its CA's fingerprint, and you by
having read the code. A key is made here; the machine signs it as its first
admin. Nobody can claim the machine again after that.

If the answer is lost or the command is interrupted, run the same command again:
the key is stored before it is sent, and is deleted only after the machine has
refused it or could not be reached.`

func claimFlags(f *pflag.FlagSet) {
	f.String("code", "", "pairing `code` as the console shows it (asked for if missing)")
	f.String("name", "", "`name` of the context to keep (default: ADDRESS's host)")
	f.String("server-name", "", "`name` in the machine's certificate, where ADDRESS only forwards to it")
}

func claimMachine(c *call) error {
	code, err := c.pairingCode()
	if err != nil {
		return err
	}
	s, m, fresh, err := c.prepareClaim()
	if err != nil {
		return err
	}
	cert, err := c.claim1(code, &m)
	switch {
	case err == nil:
	case !errors.As(err, new(unsigned)):
		c.note("The machine may have signed the key of context %s, which is kept: run the same command again to get the answer.", m.Name)
		return err
	case fresh:
		if err := s.update(func(all *contexts) error { all.removeUnclaimed(m); return nil }); err != nil {
			c.note("warning: %s", message(err))
		}
		return err
	default:
		return err
	}
	err = s.update(func(all *contexts) error {
		all.put(m)
		all.Current = m.Name
		return nil
	})
	if err != nil {
		return err
	}
	c.note("%s is yours: %s of context %s, until %s.", m.Address, words.Of(auth.RoleOf(cert)), m.Name, moment(cert.NotAfter))
	return nil
}

// unsigned is the error of a claim by which the machine has certainly not signed the
// key: the request was not sent, or the machine refused it. After any other error, an
// interrupt or an internal error of the machine for example, the machine may be
// claimed by this key, and without the key it could not be managed.
type unsigned struct{ error }

func (u unsigned) Unwrap() error { return u.error }

// refusedClaim says which answers of the machine prove that it has not signed the key.
// ResourceExhausted is not among them: gRPC reports it too when an answer is too large.
func refusedClaim(err error) bool {
	switch status.Code(err) {
	case codes.PermissionDenied, codes.FailedPrecondition, codes.InvalidArgument:
		return true
	}
	return false
}

func (c *call) pairingCode() (trust.Code, error) {
	text := c.flag("code")
	if text == "" {
		if !c.asks() {
			return trust.Code{}, fail(exitUsage, "claim needs --code, as the machine's console shows it")
		}
		var err error
		if text, err = c.ask("Pairing code, as the machine's console shows it: "); err != nil {
			return trust.Code{}, err
		}
	}
	code, err := trust.ParseCode(text)
	if err != nil {
		return trust.Code{}, fail(exitAuth, "%w", err)
	}
	return code, nil
}

// prepareClaim makes the key and stores it durably before the machine sees it: once
// the machine has signed a key, it answers that key again, and no other.
func (c *call) prepareClaim() (s store, m machine, fresh bool, err error) {
	address, err := withPort(c.args[0])
	if err != nil {
		return s, m, false, err
	}
	host, _, _ := net.SplitHostPort(address)
	m = machine{Name: first(c.flag("name"), c.context, host), Address: address, ServerName: c.flag("server-name")}
	if s, err = c.openStore(); err != nil {
		return s, m, false, err
	}
	err = s.update(func(all *contexts) error {
		switch old := all.find(m.Name); {
		case old != nil && old.Certificate != "":
			return fail(exitRefused, "there is a context %s already, for %s: remove it (dactyl context remove %[1]s) or give this machine another --name", m.Name, old.Address)
		case old != nil:
			m.Key = old.Key
		default:
			fresh = true
			if _, m.Key, err = newKey(); err != nil {
				return err
			}
		}
		all.put(m)
		return nil
	})
	return s, m, fresh, err
}

// claim1 claims m and completes it with what the machine answers.
func (c *call) claim1(code trust.Code, m *machine) (*x509.Certificate, error) {
	key, err := parseKey("key of context "+m.Name, m.Key)
	if err != nil {
		return nil, unsigned{err}
	}
	csr, err := request(key, "admin")
	if err != nil {
		return nil, unsigned{err}
	}
	shown := &shownCA{code: code, address: m.Address}
	cc, err := dial(m.Address, shown.config(m.ServerName), c.timeout)
	if err != nil {
		return nil, unsigned{err}
	}
	defer cc.close()
	if err := cc.handshake(c.ctx); err != nil {
		return nil, unsigned{err}
	}
	authority := shown.get()
	answer, err := trust.NewClient(cc).Claim(c.ctx, &trust.ClaimRequest{
		Csr: csr, Proof: trust.Proof(code.Secret, authority.Raw, csr), TimeUnix: time.Now().Unix(),
	})
	if refusedClaim(err) {
		return nil, unsigned{explainClaim(err)}
	}
	if err != nil {
		return nil, explainClaim(err)
	}
	if !trust.Equal(answer.Confirm, trust.Confirm(code.Secret, answer.Certificate, answer.Authority)) ||
		!authority.Equal(&x509.Certificate{Raw: answer.Authority}) {
		return nil, fail(exitAuth, "%s answered without knowing the pairing code: it is not the machine that shows it", m.Address)
	}
	m.Authority, m.Certificate = toPEM(pemCertificate, answer.Authority), toPEM(pemCertificate, answer.Certificate)
	cert, err := checkIssued(answer.Certificate, answer.Authority, key)
	if err == nil {
		m.Life = lifeOf(cert)
	}
	return cert, err
}

func explainClaim(err error) error {
	switch status.Code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		return fail(exitAuth, "the machine does not accept the pairing code: compare it with the console")
	case codes.ResourceExhausted:
		return fail(exitAuth, "the machine does not accept the pairing code, or has too many requests: %s", message(err))
	case codes.FailedPrecondition:
		return fail(exitRefused, "the machine has been claimed already: its admin can issue you a certificate (dactyl cert issue)")
	}
	return err
}

// shownCA checks the certificates that an unclaimed machine shows against the
// code and keeps its CA.
type shownCA struct {
	code    trust.Code
	address string

	mu        sync.Mutex // guards authority
	authority *x509.Certificate
}

func (s *shownCA) get() *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.authority
}

// config is TLS that believes the pairing code alone.
func (s *shownCA) config(serverName string) *tls.Config {
	config := &tls.Config{ServerName: serverName, InsecureSkipVerify: true} // verify does it
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return s.verify(state.PeerCertificates, config.ServerName)
	}
	return config
}

// verify believes a chain whose last certificate is the CA that the code names,
// and whose first is that CA's for this address. Times
// are not compared: a new machine may not know the time yet, and the code pins
// the CA whatever the time.
func (s *shownCA) verify(chain []*x509.Certificate, host string) error {
	leaf, authority := chain[0], chain[len(chain)-1]
	if !s.code.Matches(authority.Raw) {
		return fail(exitAuth, "%s is not the machine that shows this code: its CA has another fingerprint; either the code is mistyped or somebody answers in the machine's place", s.address)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, CurrentTime: leaf.NotBefore,
	})
	if err != nil || !authority.IsCA {
		return fail(exitAuth, "%s is not the machine that shows this code: its certificate is not from the CA that the code names", s.address)
	}
	if err := leaf.VerifyHostname(host); err != nil {
		var name x509.HostnameError
		if errors.As(err, &name) {
			return explainName(s.address, name)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authority = authority
	return nil
}
