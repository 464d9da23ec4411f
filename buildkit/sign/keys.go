package sign

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// keyBits is what every firmware takes: the specification asks for RSA-2048,
	// and longer keys are refused by some.
	keyBits = 2048
	// keyLife only has to outlast the machine: firmware does not look at it.
	keyLife = 20 * 365 * 24 * time.Hour

	keyFile  = "secureboot.key" // PKCS #8, PEM, mode 0600
	certFile = "secureboot.crt" // PEM
)

// Keys sign the boot loader and the UKIs. Signer must hold the RSA key of Certificate.
type Keys struct {
	Signer      crypto.Signer
	Certificate *x509.Certificate
}

// Modes are the modes of images that have keys.
var Modes = []string{"production", "dev", "test"}

// ForMode returns the keys made on this machine that sign images of one mode, and makes
// them when there are none. They are in dactyl/keys/<mode> in the user's cache directory,
// outside any source tree.
//
// Each mode has its own: firmware that trusts the production key must not run a dev image,
// in which an admin replaces any daemon.
func ForMode(mode string) (Keys, error) {
	if !slices.Contains(Modes, mode) {
		return Keys{}, fmt.Errorf("signing keys: there is no mode %q; the modes are %s", mode, strings.Join(Modes, ", "))
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Keys{}, fmt.Errorf("signing keys: %w", err)
	}
	return LoadOrCreate(filepath.Join(cache, "dactyl", "keys", mode), mode)
}

// LoadOrCreate reads the keys in dir, or makes keys for images of a mode when there are none.
func LoadOrCreate(dir, mode string) (Keys, error) {
	k, err := Load(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := create(dir, mode); err != nil {
		return Keys{}, fmt.Errorf("make signing keys in %s: %w", dir, err)
	}
	return Load(dir)
}

// Load reads secureboot.key and secureboot.crt in dir. A missing file is an error
// that is fs.ErrNotExist.
func Load(dir string) (Keys, error) {
	der, err := readPEM(filepath.Join(dir, keyFile), "PRIVATE KEY")
	if err != nil {
		return Keys{}, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return Keys{}, fmt.Errorf("%s: %w", filepath.Join(dir, keyFile), err)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return Keys{}, fmt.Errorf("%s: a %T, want an RSA key", filepath.Join(dir, keyFile), key)
	}
	if der, err = readPEM(filepath.Join(dir, certFile), "CERTIFICATE"); err != nil {
		return Keys{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Keys{}, fmt.Errorf("%s: %w", filepath.Join(dir, certFile), err)
	}
	if !rsaKey.PublicKey.Equal(cert.PublicKey) {
		return Keys{}, fmt.Errorf("%s: key and certificate do not belong together", dir)
	}
	return Keys{rsaKey, cert}, nil
}

// create writes the certificate before the key: Load asks for the key first, so a
// run that is cut short looks like one that never was.
func create(dir, mode string) error {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "Dactyl Secure Boot, " + mode + " images, made on this machine"},
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.Add(keyLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, certFile), "CERTIFICATE", cert, 0o644); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, keyFile), "PRIVATE KEY", der, 0o600)
}

func readPEM(name, kind string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s: no PEM block of type %s", name, kind)
	}
	return block.Bytes, nil
}

func writePEM(name, kind string, der []byte, mode fs.FileMode) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
