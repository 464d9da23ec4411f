package main

import (
	"crypto/x509"
	"errors"
	"net"
	"strings"
)

// explainTLS says which side does not accept the other, and what to do.
func explainTLS(address string, err error) error {
	var (
		known    *failure
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		fromPeer *net.OpError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &name):
		return explainName(address, name)
	case errors.As(err, &unknown):
		return fail(exitAuth, "%s is not the machine that this context knows: its certificate comes from another CA; if it was wiped, claim it again", address)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fail(exitAuth, "%s shows a certificate that is not valid now (%s): compare the clocks of both sides", address, invalid.Detail)
	case errors.As(err, &fromPeer) && fromPeer.Op == "remote error":
		return fail(exitAuth, "%s does not accept this client certificate (%w); dactyl context list shows until when it is valid, an admin issues another with dactyl cert issue", address, fromPeer.Err)
	case errors.As(err, &invalid):
		return fail(exitAuth, "%s shows a certificate that cannot be trusted: %w", address, err)
	}
	return fail(exitConnection, "%s ends the TLS handshake (%w): it is starting, or something else listens there", address, err)
}

// explainName says by which names the machine may be called.
func explainName(address string, err x509.HostnameError) error {
	var names []string
	names = append(names, err.Certificate.DNSNames...)
	for _, ip := range err.Certificate.IPAddresses {
		names = append(names, ip.String())
	}
	return fail(exitAuth, "the certificate of %s is for %s, not for %s: use one of those addresses, or, where %s only forwards to it, --server-name with one of those names",
		address, strings.Join(names, ", "), err.Host, err.Host)
}
