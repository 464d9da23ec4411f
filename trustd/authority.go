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
	"time"
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

// authority is the OS CA.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	random      io.Reader
}

// makeAuthority makes a CA and returns it as it is kept.
func makeAuthority(random io.Reader) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	serial, err := newSerial(random)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Dactyl OS CA"},
		NotBefore:             dawn,
		NotAfter:              noEnd,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs no other CA
		KeyUsage:              x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	certificate, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the CA's certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the CA's key: %w", err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}

// parseAuthority reads what makeAuthority returned. Its errors are errDamaged.
func parseAuthority(kept []byte, random io.Reader) (*authority, error) {
	first, rest := pem.Decode(kept)
	second, rest := pem.Decode(rest)
	if first == nil || second == nil || len(rest) > 0 {
		return nil, fmt.Errorf("%s: %w: not a certificate followed by a key", authorityFile, errDamaged)
	}
	certificate, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", authorityFile, errDamaged, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(second.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", authorityFile, errDamaged, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("%s: %w: the key is not the certificate's", authorityFile, errDamaged)
	}
	return &authority{certificate, key, random}, nil
}

// A leaf is what trustd decides of a certificate; the key is the asker's.
type leaf struct {
	key   any
	name  string // common name
	role  role   // of a client; empty for a server
	ends  time.Time
	names subjectNames // of a server
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
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              l.names.dns,
	}
	for _, ip := range l.names.addresses {
		template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
	}
	if l.role != "" {
		template.Subject.Organization = []string{string(l.role)}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(a.random, template, a.certificate, l.key, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", l.name, err)
	}
	return der, nil
}

// newSerial returns 128 random bits.
func newSerial(random io.Reader) (*big.Int, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return new(big.Int).SetBytes(b[:]), nil
}
