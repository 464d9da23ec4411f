package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"time"

	"github.com/dactyl-os/dactyl/ipc/trust"
)

var (
	// dawn is when every certificate begins: before the first Dactyl was built, so
	// that no clock that is merely behind finds a certificate "not yet valid".
	dawn = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	// noEnd is RFC 5280's date for a certificate that ends by other means: the CA
	// ends by rotation, and no wrong clock may end it earlier.
	noEnd = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// errDamaged says that a file of the state is not what trustd wrote. Starting
// again cannot help, and making it anew would change the machine's identity.
var errDamaged = errors.New("damaged")

// authority is a CA.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	random      io.Reader
}

// makeAuthority makes a CA and returns it as it is kept: both halves in one file.
func makeAuthority(name caName, random io.Reader) ([]byte, error) {
	key, secret, err := makeKey(random)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(random)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: titles[name]},
		NotBefore:             dawn,
		NotAfter:              noEnd,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs no other CA
		KeyUsage:              x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if name == kubeletCA {
		// Even where a program trusts this CA by mistake, none of its certificates is the API server
		// by the names that only that one has.
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.PermittedDNSDomainsCritical = true
		template.ExcludedDNSDomains = append([]string{"localhost"}, apiServerNames...)
		template.ExcludedIPRanges = []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, {IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		}
	}
	certificate, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the CA's certificate: %w", err)
	}
	return append(encodePEM(pemCertificate, certificate), secret...), nil
}

// parseAuthority reads what makeAuthority returned and file kept. Its errors are errDamaged.
func parseAuthority(file string, kept []byte, random io.Reader) (*authority, error) {
	_, rest := pem.Decode(kept)
	certificate, err := parseCertificate(file, kept[:len(kept)-len(rest)])
	if err != nil {
		return nil, err
	}
	key, err := parseKey(file, rest)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("%s: %w: the key is not the certificate's", file, errDamaged)
	}
	return &authority{certificate, key, random}, nil
}

// A subject is whom a certificate is for, as trustd decides it.
type subject struct {
	name  string // common name
	group string // organisation: the word for a client's role, or its group; may be empty
	usage x509.ExtKeyUsage
	names subjectNames // of a server
}

// A leaf is all that trustd decides of a certificate, and the key.
type leaf struct {
	subject
	key  any
	ends time.Time
	from descent // of a client's that came from a CSR
}

// A descent is by whose certificate a client's is issued.
type descent struct {
	lineage []string // of that certificate; nil: the new one has none
	renewal bool     // it is for the same client, and has the same lineage
}

// of returns the lineage of the new certificate.
func (d descent) of(serial string) []string {
	if d.renewal {
		return d.lineage
	}
	return trust.Descend(d.lineage, serial)
}

// sign returns the DER of a certificate.
func (a *authority) sign(l leaf) ([]byte, error) {
	serial, err := newSerial(a.random)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: l.name},
		NotBefore:             dawn,
		NotAfter:              l.ends,
		BasicConstraintsValid: true, // critical: not a CA
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{l.usage},
		DNSNames:              l.names.dns,
	}
	for _, ip := range l.names.addresses {
		template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
	}
	if l.from.lineage != nil {
		template.URIs = []*url.URL{trust.LineageURI(l.from.of(serialOf(template)))}
	}
	if l.group != "" {
		template.Subject.Organization = []string{l.group}
	}
	der, err := x509.CreateCertificate(a.random, template, a.certificate, l.key, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", l.name, err)
	}
	return der, nil
}

// issue signs, and returns the certificate as others will read it.
func (a *authority) issue(l leaf) (*x509.Certificate, error) {
	der, err := a.sign(l)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read what was just signed: %w", err)
	}
	return c, nil
}

// newSerial returns 128 random bits.
func newSerial(random io.Reader) (*big.Int, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return new(big.Int).SetBytes(b[:]), nil
}

// Types of PEM blocks. A key is in PKCS#8, which everybody reads.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	pemPublicKey   = "PUBLIC KEY"
)

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// makeKey returns a new key, also as it is kept.
func makeKey(random io.Reader) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode a key: %w", err)
	}
	return key, encodePEM(pemKey, der), nil
}

// parseKey reads what makeKey returned and file kept. Its errors are errDamaged.
func parseKey(file string, kept []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(kept)
	if block == nil || block.Type != pemKey || len(rest) > 0 {
		return nil, fmt.Errorf("%s: %w: not a key", file, errDamaged)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, errDamaged, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: %w: not an ECDSA key", file, errDamaged)
	}
	return signer, nil
}

// parseCertificate reads the one certificate that file kept. Its errors are errDamaged.
func parseCertificate(file string, kept []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(kept)
	if block == nil || block.Type != pemCertificate || len(rest) > 0 {
		return nil, fmt.Errorf("%s: %w: not a certificate", file, errDamaged)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, errDamaged, err)
	}
	return c, nil
}
