package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	pemRequest     = "CERTIFICATE REQUEST"

	// warnBefore is how long before its end a certificate is worth a warning: a
	// day of work. One that lives shorter is mentioned in its last third.
	warnBefore = 8 * time.Hour
	// renewTimeout bounds what a command does after its answer has been printed.
	renewTimeout = 5 * time.Second
)

func toPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// fromPEM returns the first block of a kind; what names the text for errors.
func fromPEM(what, text, kind string) ([]byte, error) {
	for rest := []byte(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, fmt.Errorf("%s: no PEM block %q", what, kind)
		}
		if b.Type == kind {
			return b.Bytes, nil
		}
	}
}

func parseCertificate(what, text string) (*x509.Certificate, error) {
	der, err := fromPEM(what, text, pemCertificate)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return cert, nil
}

// clientTLS is how to speak to m: as whom, and whom to believe.
func (m *machine) clientTLS() (*tls.Config, error) {
	pair, err := tls.X509KeyPair([]byte(m.Certificate), []byte(m.Key))
	if err != nil {
		return nil, fail(exitAuth, "context %s: %w", m.Name, err)
	}
	authority, err := parseCertificate("authority of context "+m.Name, m.Authority)
	if err != nil {
		return nil, fail(exitAuth, "%w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: m.ServerName}, nil
}

// newKey makes a private key; it returns it as PEM too.
func newKey() (*ecdsa.PrivateKey, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", fmt.Errorf("write a key: %w", err)
	}
	return key, toPEM(pemKey, der), nil
}

func parseKey(what, text string) (*ecdsa.PrivateKey, error) {
	der, err := fromPEM(what, text, pemKey)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if key, ok := key.(*ecdsa.PrivateKey); ok {
		return key, nil
	}
	return nil, fmt.Errorf("%s: a key of type %T, want ECDSA", what, key)
}

// request signs a CSR. The machine takes its key only; the name helps a reader.
func request(key *ecdsa.PrivateKey, name string) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, fmt.Errorf("make a CSR: %w", err)
	}
	return csr, nil
}

// lifeOf is the life of a certificate that has just come.
func lifeOf(cert *x509.Certificate) time.Duration {
	return time.Until(cert.NotAfter).Round(time.Second)
}

// state says how long a certificate is still good for.
type state struct {
	notAfter time.Time
	left     time.Duration
	due      bool // to be renewed: two thirds of its life are over
	warn     bool
}

func stateOf(notAfter time.Time, life time.Duration, now time.Time) state {
	left := notAfter.Sub(now)
	return state{notAfter, left, left < life/3, left < min(warnBefore, life/3)}
}

// keepValid renews an admin's certificate when it is due, and warns of the end
// of any other. It is no reason for the command to fail.
func (c *call) keepValid(s *session) {
	cert, err := parseCertificate("certificate", s.machine.Certificate)
	if err != nil || !stateOf(cert.NotAfter, s.machine.Life, time.Now()).due || c.ctx.Err() != nil {
		return
	}
	if auth.RoleOf(cert) != auth.Role_ROLE_ADMIN {
		c.warnOfEnd(s.machine)
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, renewTimeout)
	defer cancel()
	if _, err := s.renew(ctx, cert); err != nil {
		c.note("warning: renew the certificate of context %s: %s", s.machine.Name, message(err))
		c.warnOfEnd(s.machine)
	}
}

// warnOfEnd says when the client certificate ends soon or has ended, and what
// to do about it.
func (c *call) warnOfEnd(m machine) {
	cert, err := parseCertificate("certificate", m.Certificate)
	if err != nil {
		return
	}
	s := stateOf(cert.NotAfter, m.Life, time.Now())
	if !s.warn && s.left > 0 {
		return
	}
	advice := "run dactyl cert renew"
	if auth.RoleOf(cert) != auth.Role_ROLE_ADMIN {
		advice = "ask an admin for another (dactyl cert issue)"
	}
	if s.left <= 0 {
		c.note("warning: the certificate of context %s ended on %s: an admin can issue another (dactyl cert issue)", m.Name, moment(s.notAfter))
		return
	}
	c.note("warning: the certificate of context %s ends in %s: %s", m.Name, span(s.left), advice)
}

// renew gets a certificate like cert with a key of its own, and keeps it.
func (s *session) renew(ctx context.Context, cert *x509.Certificate) (*x509.Certificate, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := request(key, cert.Subject.CommonName)
	if err != nil {
		return nil, err
	}
	answer, err := trust.NewClient(s).IssueClient(ctx, &trust.IssueClientRequest{
		Csr: csr, Role: auth.RoleOf(cert), Name: cert.Subject.CommonName, TtlS: int64(min(s.machine.Life, maxTTL) / time.Second),
	})
	if err != nil {
		return nil, err
	}
	issued, err := checkIssued(answer.Certificate, answer.Authority, key)
	if err != nil {
		return nil, err
	}
	old := s.machine.Certificate
	return issued, s.store.update(func(c *contexts) error {
		m := c.find(s.machine.Name)
		if m == nil || m.Certificate != old { // removed, or renewed by another command
			return nil
		}
		m.Certificate, m.Key = toPEM(pemCertificate, answer.Certificate), keyPEM
		return nil
	})
}

// checkIssued refuses an answer that is not a client certificate of the CA for
// our key: it would lock its owner out at the next call.
func checkIssued(certificate, authority []byte, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("issued certificate: %w", err)
	}
	ca, err := x509.ParseCertificate(authority)
	if err != nil {
		return nil, fmt.Errorf("issuing CA: %w", err)
	}
	if key != nil && !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("issued certificate: it is for another key")
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: cert.NotBefore,
	})
	if err != nil {
		return nil, fmt.Errorf("issued certificate: %w", err)
	}
	return cert, nil
}
