package debian

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// registryPort is always the same, because it is in the YAML of the machines that pull
	// from here, and machines are restored by their YAML.
	registryPort = "15443"
	// Host is this host for a machine with a user network.
	Host = "10.0.2.2"
)

// Registry is Debian's docker-registry on this host, over TLS with a certificate of a CA
// that no other machine trusts, for one user.
type Registry struct {
	Name           string // as a machine's images are called: HOST:PORT
	Authority      string // PEM
	User, Password string

	t   *testing.T
	dir string // of certificates, as skopeo takes them
}

// htpasswd is of me, with the password secret.
const htpasswd = "me:$2b$04$ugPd4wnRL1XFIIIPzAwnyuMNFhDeOSnTDJlxz.jmYBGyE3M6n6LEO\n"

const config = `version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: %[1]s/data}}
http: {addr: "127.0.0.1:%[2]s", secret: scenario, tls: {certificate: %[1]s/server.pem, key: %[1]s/server.pem}}
auth: {htpasswd: {realm: scenario, path: %[1]s/htpasswd}}
`

// Serve starts a registry that ends with the test.
func Serve(t *testing.T) *Registry {
	t.Helper()
	r := &Registry{Name: Host + ":" + registryPort, User: "me", Password: "secret", t: t, dir: t.TempDir()}
	ca, key, err := authority()
	if err != nil {
		t.Fatal(err)
	}
	r.Authority = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
	if err := r.write(ca, key); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("docker-registry", "serve", filepath.Join(r.dir, "config.yml"))
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if t.Failed() {
			t.Logf("docker-registry:\n%s", log.String())
		}
	})
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		c, err := tls.Dial("tcp", "127.0.0.1:"+registryPort, &tls.Config{RootCAs: pool})
		if err == nil {
			c.Close()
			return r
		}
		if time.Now().After(end) {
			t.Fatalf("docker-registry does not answer on port %s: %v", registryPort, err)
		}
	}
}

// Push stores an archive of docker's kind under a name, such as "redis:1", and returns
// the name of the image for a machine.
func (r *Registry) Push(archive, name string) string {
	r.t.Helper()
	push := exec.Command("skopeo", "copy", "--quiet", "--dest-cert-dir", r.dir, "--dest-creds", r.User+":"+r.Password,
		"docker-archive:"+archive, "docker://127.0.0.1:"+registryPort+"/apps/"+name)
	if out, err := push.CombinedOutput(); err != nil {
		r.t.Fatalf("push %s: %v: %s", name, err, out)
	}
	return r.Name + "/apps/" + name
}

// YAML is the part of cluster.yaml that a machine needs to pull from the registry.
func (r *Registry) YAML() string {
	return "registries:\n  hosts:\n    - name: " + r.Name + "\n      ca: |\n        " +
		strings.ReplaceAll(strings.TrimSpace(r.Authority), "\n", "\n        ") + "\n"
}

// authority returns the CA, which is kept in the user's cache.
func authority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(cache, "dactyl", "debian", "registry.pem")
	pair, err := tls.LoadX509KeyPair(path, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeAuthority(path); err != nil {
			return nil, nil, err
		}
		pair, err = tls.LoadX509KeyPair(path, path)
	}
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s: not an ECDSA key", path)
	}
	return pair.Leaf, key, nil
}

func makeAuthority(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Registry of scenarios"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return err
	}
	text, err := encode(der, key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func encode(der []byte, key *ecdsa.PrivateKey) ([]byte, error) {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), nil
}

// write writes the registry's files.
func (r *Registry) write(ca *x509.Certificate, caKey *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "registry"},
		IPAddresses: []net.IP{net.ParseIP(Host), net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	pair, err := encode(der, key)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"server.pem": string(pair), "ca.crt": r.Authority, "htpasswd": htpasswd,
		"config.yml": fmt.Sprintf(config, r.dir, registryPort),
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
