package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// Files that "cert issue --out" writes and "context add --from" reads.
const (
	fileCA          = "ca.crt"
	fileCertificate = "tls.crt"
	fileKey         = "tls.key"
)

// maxTTL is the longest life that a machine gives a client certificate.
const maxTTL = 365 * 24 * time.Hour

// showCertificates implements "trust certs". Its first columns fit a terminal for whatever
// trustd itself names.
func showCertificates(c *call, r *trust.ListCertificatesResponse) error {
	if r.ReportedTimeUnix != 0 {
		c.note("note: certificates are counted from %s, by the clock of the computer that claimed the machine: the machine's own clock is behind, and no time server has confirmed it (dactyl time)", seconds(r.ReportedTimeUnix))
	}
	return c.show(r, func() table { return certificateTable(r) })
}

func certificateTable(r *trust.ListCertificatesResponse) table {
	t := table{header: []string{"KIND", "SUBJECT", "ROLE", "NOT-AFTER", "CA", "RECEIVER", "NOT-BEFORE", "NAMES", "SERIAL", "LINEAGE", "FINGERPRINT"}, narrow: 4}
	for _, c := range r.Certificates {
		t.add(c.Kind, c.Subject, first(words.Of(c.Role), c.Group), seconds(c.NotAfterUnix), c.Ca, c.Receiver, seconds(c.NotBeforeUnix), list(c.Names), c.Serial, list(c.Lineage), c.Fingerprint)
	}
	return t
}

const issueLong = `Issue a client certificate for somebody else, or for a program.

With --out the certificate, its key and the CA are written to a directory, for
"dactyl context add" on another computer or for any gRPC client. With --csr a key
that was made elsewhere is signed and no key is written. Without --out the
certificate becomes another context of this computer, named like it.

Roles: reader < operator < admin.`

func issueFlags(f *pflag.FlagSet) {
	f.String("role", "", "what it may do: reader, operator or admin")
	f.String("name", "", "whose it is; `name` in the machine's log of calls")
	f.Duration("ttl", 0, "how `long` it is valid (default 24h)")
	f.String("csr", "", "`file` of a certificate request (PEM) instead of a new key")
	f.String("out", "", "`directory` for ca.crt, tls.crt and tls.key")
}

func issueCertificate(c *call) error {
	if c.flag("role") == "" || c.flag("name") == "" {
		return fail(exitUsage, "cert issue needs --role and --name")
	}
	wanted, _ := words.Parse[auth.Role](c.flag("role"))
	if !wanted.Issuable() {
		return fail(exitUsage, "--role %q: want reader, operator or admin", c.flag("role"))
	}
	if c.flag("csr") != "" && c.flag("out") == "" {
		return fail(exitUsage, "--csr needs --out: a context needs the key")
	}
	return c.withMachine(func(s *session) error {
		made := s.machine
		made.Name = c.flag("name")
		key, csr, err := c.requested(&made)
		if err != nil {
			return err
		}
		answer, err := trust.NewClient(s).IssueClient(c.ctx, &trust.IssueClientRequest{
			Csr: csr, Role: wanted, Name: made.Name, TtlS: int64(c.duration("ttl") / time.Second),
		})
		if err != nil {
			return err
		}
		cert, err := checkIssued(answer.Certificate, answer.Authority, key)
		if err != nil {
			return err
		}
		made.Certificate = toPEM(pemCertificate, answer.Certificate)
		made.Authority = toPEM(pemCertificate, answer.Authority)
		made.Life = lifeOf(cert)
		if err := c.keepIssued(s.store, made); err != nil {
			return err
		}
		c.note("%s may act as %s until %s.", made.Name, words.Of(auth.RoleOf(cert)), moment(cert.NotAfter))
		return nil
	})
}

// requested returns the CSR to sign, and the key where it is ours.
func (c *call) requested(made *machine) (*ecdsa.PrivateKey, []byte, error) {
	if file := c.flag("csr"); file != "" {
		made.Key = ""
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		csr, err := fromPEM(file, string(text), pemRequest)
		return nil, csr, err
	}
	if c.flag("out") == "" {
		all, err := c.contextsNow()
		if err != nil {
			return nil, nil, err
		}
		if all.find(made.Name) != nil {
			return nil, nil, fail(exitRefused, "there is a context %s already: use --out, or another --name", made.Name)
		}
	}
	key, text, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	made.Key = text
	csr, err := request(key, made.Name)
	return key, csr, err
}

func (c *call) contextsNow() (*contexts, error) {
	s, err := c.openStore()
	if err != nil {
		return nil, err
	}
	return s.load()
}

func (c *call) keepIssued(s store, made machine) error {
	dir := c.flag("out")
	if dir == "" {
		return s.update(func(all *contexts) error { all.put(made); return nil })
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if made.Key != "" {
		if err := writeSecret(filepath.Join(dir, fileKey), []byte(made.Key)); err != nil {
			return err
		}
	}
	if err := replaceFile(filepath.Join(dir, fileCA), []byte(made.Authority), 0o644); err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, fileCertificate), []byte(made.Certificate), 0o644)
}

// renewCertificate implements "cert renew".
func renewCertificate(c *call) error {
	s, err := c.connect()
	if err != nil {
		return err
	}
	defer s.close()
	var cert *x509.Certificate
	if cert, err = parseCertificate("certificate of context "+s.machine.Name, s.machine.Certificate); err != nil {
		return err
	}
	if cert, err = s.renew(c.ctx, cert); err != nil {
		return err
	}
	c.note("%s of context %s until %s.", words.Of(auth.RoleOf(cert)), s.machine.Name, moment(cert.NotAfter))
	return nil
}
