package vm

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"testing"
)

// attachEnv names a file that Running.Describe has written: scenarios that share a
// machine then use that one, which runs already, instead of booting their own. It is for
// whoever writes a scenario: without KVM, a Ready node is a minute or more away.
const attachEnv = "DACTYL_MACHINE"

// description is a running machine as another process finds it.
type description struct {
	API         string
	Forwarded   map[int]string
	Authority   []byte // DER
	Certificate []byte // DER, the admin's
	Key         []byte // PKCS #8
}

// Describe writes how to reach this machine, with its admin's key.
func (r *Running) Describe(path string) error {
	key, err := x509.MarshalPKCS8PrivateKey(r.Identity.Certificate.PrivateKey)
	if err != nil {
		return err
	}
	text, err := json.Marshal(description{r.API, r.forwarded, r.Identity.Authority.Raw, r.Identity.Certificate.Certificate[0], key})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// attach takes the machine that path describes.
func attach(t *testing.T, s *Shared, path string) *claimed {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	authority, err := x509.ParseCertificate(d.Authority)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	pair, err := tls.X509KeyPair(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Certificate}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: d.Key}))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	c := s.prepare(t)
	c.Config.NIC = UserNetwork // nobody has recorded what it sends
	c.Identity = Identity{Authority: authority, Certificate: &pair}
	c.Machine = &Machine{API: d.API, Serial: newSerial(), forwarded: d.Forwarded, ended: make(chan struct{})}
	return c
}
