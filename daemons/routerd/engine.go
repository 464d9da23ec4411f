package main

import (
	"crypto/x509"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// caller is what the gateway knows of the client of a connection.
type caller struct {
	name    string    // common name; empty without a certificate of this machine's CA
	role    auth.Role // unspecified if the certificate carries none
	from    time.Time
	until   time.Time
	origin  ipc.Origin // what daemons are told of it
	refusal error      // why it is an anonymous client; nil for one with a valid certificate
}

// callerOf judges what a client has shown in its handshake, which is over at now. TLS has
// checked that the client holds the key, nothing else.
func callerOf(shown []*x509.Certificate, authority *x509.CertPool, now time.Time) caller {
	if len(shown) == 0 {
		return caller{refusal: status.Error(codes.Unauthenticated, "no certificate: this method needs a client certificate of this machine's CA")}
	}
	c := shown[0]
	_, err := c.Verify(x509.VerifyOptions{Roots: authority, CurrentTime: c.NotAfter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if invalid, ok := err.(x509.CertificateInvalidError); ok && invalid.Reason == x509.IncompatibleUsage {
		return caller{refusal: status.Errorf(codes.Unauthenticated, "the certificate of %q is not a client's", c.Subject.CommonName)}
	}
	if err != nil {
		return caller{refusal: status.Errorf(codes.Unauthenticated, "the certificate of %q was issued by another CA than this machine's: take the one issued here", c.Subject.CommonName)}
	}
	out := caller{name: c.Subject.CommonName, role: auth.RoleOf(c), from: c.NotBefore, until: c.NotAfter}
	out.origin = ipc.Origin{Name: out.name, Role: out.role, Serial: trust.Serial(c), Lineage: trust.Lineage(c)}
	if out.refusal = out.invalid(now); out.refusal == nil && out.role == auth.Role_ROLE_UNSPECIFIED {
		out.refusal = status.Errorf(codes.PermissionDenied, "the certificate of %q carries no role: its organisation must be one of reader, operator and admin", out.name)
	}
	return out
}

// invalid returns why the certificate is not valid at now; nil if it is.
func (c caller) invalid(now time.Time) error {
	switch {
	case now.After(c.until):
		return status.Errorf(codes.Unauthenticated, "the certificate of %q expired on %s: ask an admin for a new one", c.name, c.until.UTC().Format(time.RFC3339))
	case now.Before(c.from):
		return status.Errorf(codes.Unauthenticated, "the certificate of %q begins on %s, and this machine's clock says %s", c.name, c.from.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// may returns nil if the caller may call a method that needs a role, and otherwise what
// would be right. A certificate may have ended since the handshake.
func (c caller) may(path string, needed auth.Role, now time.Time) error {
	if needed == auth.Role_ROLE_ANYONE {
		return nil
	}
	if c.refusal != nil {
		return c.refusal
	}
	if err := c.invalid(now); err != nil {
		return err
	}
	if !c.role.Includes(needed) {
		return status.Errorf(codes.PermissionDenied, "%q is %s, and %s needs the role %s", c.name, words.Of(c.role), methodOf(path), words.Of(needed))
	}
	return nil
}

// methodOf returns the last part of a path: ListLinks.
func methodOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
