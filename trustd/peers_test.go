package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/trust"
)

// partsGroup stands for the group that PID 1 gives a part's folder to.
const partsGroup = 4242

// makeParts makes the folders as PID 1 does and has a real trustd fill them, under the
// umask that daemons run with.
func makeParts(t *testing.T) (dir string, c trust.Client) {
	t.Helper()
	old := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(old) })
	dir = t.TempDir()
	for _, p := range parts(wish{}) {
		folder := filepath.Join(dir, p.name)
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 {
			if err := os.Chown(folder, 0, partsGroup); err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Chmod(folder, 0o2750); err != nil {
			t.Fatal(err)
		}
	}
	c = serveBoth(t, t.TempDir(), dir, noNames)
	prepareParts(t, c)
	return dir, c
}

var edge1 = &trust.PrepareKubernetesRequest{Node: "edge1", Addresses: []string{"10.0.2.15"}, ServiceNetwork: "10.96.0.0/16"}

func prepareParts(t *testing.T, c trust.Client) []string {
	t.Helper()
	r, err := c.PrepareKubernetes(t.Context(), edge1)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Absent) > 0 {
		t.Fatalf("no folder for %v", r.Absent)
	}
	return r.Written
}

// Every part can read what is in its folder, and nobody else can; asked for the same
// again, trustd leaves every file alone.
func TestGiven(t *testing.T) {
	dir, c := makeParts(t)
	before := filesOf(t, dir)
	if len(before) != 41 {
		t.Errorf("%d files: %v", len(before), before)
	}
	for name, i := range before {
		if i.Mode() != 0o640 {
			t.Errorf("%s: mode %v", name, i.Mode())
		}
		if got := i.Sys().(*syscall.Stat_t).Gid; os.Getuid() == 0 && got != partsGroup {
			t.Errorf("%s: group %d", name, got)
		}
	}
	if again := prepareParts(t, c); again != nil {
		t.Errorf("written again: %v", again)
	}
	for name, i := range filesOf(t, dir) {
		if !os.SameFile(i, before[name]) {
			t.Errorf("%s is another file now", name)
		}
	}
}

func filesOf(t *testing.T, dir string) map[string]fs.FileInfo {
	t.Helper()
	found := map[string]fs.FileInfo{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		found[strings.TrimPrefix(name, dir+"/")], err = d.Info()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// OpenSSL, which is stricter than Go, accepts each certificate for its own purpose
// and for no other.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl here")
	}
	dir, _ := makeParts(t)
	accepts := func(ca caName, purpose, name string) bool {
		out, err := exec.Command(openssl, "verify", "-x509_strict", "-purpose", purpose, "-CAfile", caFile(dir, ca), filepath.Join(dir, name+".crt")).CombinedOutput()
		if err != nil {
			t.Logf("%s for %s by %s: %s", name, purpose, ca, out)
		}
		return err == nil
	}
	for _, p := range parts(wish{}) {
		for _, one := range p.pairs {
			for _, ca := range slices.Concat(kubernetesCAs, addedCAs) {
				for purpose, usage := range map[string]x509.ExtKeyUsage{"sslserver": x509.ExtKeyUsageServerAuth, "sslclient": x509.ExtKeyUsageClientAuth} {
					name := path.Join(p.name, one.file)
					if got, want := accepts(ca, purpose, name), ca == one.ca && usage == one.usage; got != want {
						t.Errorf("%s is accepted for %s by the CA %s: %v", name, purpose, ca, got)
					}
				}
			}
		}
	}
}

// caFile is where a CA is found among what the API server gets: it gets all.
func caFile(dir string, ca caName) string {
	return filepath.Join(dir, "kube-apiserver", string(ca)+"-ca.crt")
}

// Every part is let in where it has to be, and nowhere else.
func TestHandshakes(t *testing.T) {
	dir, c := makeParts(t)
	load := func(name string) tls.Certificate {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	pool := func(ca caName) *x509.CertPool {
		text, err := os.ReadFile(caFile(dir, ca))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		return roots
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	servers := []struct {
		pair    string
		ca      caName // of the server
		clients caName // whom it believes
		names   []string
		lets    []string
	}{
		{"etcdd/server", etcdCA, etcdCA, []string{"127.0.0.1", "localhost"}, []string{"kube-apiserver/etcd-client"}},
		{"kube-apiserver/tls", kubernetesCA, kubernetesCA,
			[]string{"127.0.0.1", "localhost", "10.0.2.15", "10.96.0.1", "edge1", "kubernetes.default.svc.cluster.local", "kubernetes.default", "::1"},
			[]string{"kube-apiserver/kubelet-client", "kube-controller-manager/client", "kube-scheduler/client", "coredns/client", "pods/kubelet-client", "pods/kube-proxy", "kubed/client"}},
		{"kube-apiserver/tls", kubernetesCA, frontProxyCA, []string{"127.0.0.1"}, []string{"kube-apiserver/front-proxy-client"}},
		{"kube-controller-manager/tls", kubernetesCA, kubernetesCA, []string{"kube-controller-manager"}, nil},
		{"kube-scheduler/tls", kubernetesCA, kubernetesCA, []string{"kube-scheduler"}, nil},
		{"pods/kubelet-server", kubeletCA, kubernetesCA, []string{"10.0.2.15", "edge1"}, []string{"kube-apiserver/kubelet-client"}},
	}
	for _, s := range servers {
		config := &tls.Config{Certificates: []tls.Certificate{load(s.pair)}, ClientCAs: pool(s.clients), ClientAuth: tls.RequireAndVerifyClientCert}
		for _, p := range parts(wish{}) {
			for _, one := range p.pairs {
				name := path.Join(p.name, one.file)
				want := one.ca == s.clients && one.usage == x509.ExtKeyUsageClientAuth
				if slices.Contains(s.lets, name) && !want {
					t.Errorf("%s is not meant to come to %s", name, s.pair)
				}
				err := shakeHands(t, l, config, &tls.Config{Certificates: []tls.Certificate{load(name)}, RootCAs: pool(s.ca), ServerName: s.names[0]})
				if (err == nil) != want {
					t.Errorf("%s comes to %s, which believes %s: %v", name, s.pair, s.clients, err)
				}
			}
		}
		config.ClientAuth = tls.NoClientCert
		for _, name := range s.names {
			if err := shakeHands(t, l, config, &tls.Config{RootCAs: pool(s.ca), ServerName: name}); err != nil {
				t.Errorf("%s as %s: %v", s.pair, name, err)
			}
		}
		if shakeHands(t, l, config, &tls.Config{RootCAs: pool(s.ca), ServerName: "bank.example"}) == nil {
			t.Errorf("%s passes for bank.example", s.pair)
		}
	}

	// Nobody but the API server itself passes for the API server, under any of the names and
	// by any of the CAs that a part has for checking it.
	isAPIServer := servers[1].names
	for _, p := range parts(wish{}) {
		for _, one := range p.pairs {
			name := path.Join(p.name, one.file)
			if one.usage != x509.ExtKeyUsageServerAuth || name == "kube-apiserver/tls" {
				continue
			}
			config := &tls.Config{Certificates: []tls.Certificate{load(name)}}
			for _, api := range isAPIServer {
				if err := shakeHands(t, l, config, &tls.Config{RootCAs: pool(kubernetesCA), ServerName: api}); err == nil {
					t.Errorf("%s passes for the API server as %s", name, api)
				}
			}
		}
	}
	for _, p := range parts(wish{}) {
		if content, err := os.ReadFile(filepath.Join(dir, p.name, "kubelet-ca.crt")); p.name != "kube-apiserver" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s has the kubelet's CA, which only the API server may trust: %s, %v", p.name, content, err)
		}
	}

	admin, err := c.IssueKubernetesClient(t.Context(), &trust.IssueKubernetesClientRequest{Csr: newCSR(t), Name: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(admin.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool(kubernetesCA), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("the API server does not accept alice: %v", err)
	}
}

// shakeHands returns what one of both has against the other.
func shakeHands(t *testing.T, l net.Listener, server, client *tls.Config) error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = tls.Server(c, server).HandshakeContext(t.Context())
			c.Close()
		}
		done <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	err = tls.Client(c, client).HandshakeContext(t.Context())
	if err != nil {
		c.Close() // else the server's word counts, which comes last
	}
	other := <-done
	c.Close()
	return errors.Join(err, other)
}

// A damaged CA is an answer of its own, and the rest of the list is still told.
func TestDamagedCluster(t *testing.T) {
	state := t.TempDir()
	c := serveState(t, state, noNames)
	if r, err := c.PrepareKubernetes(t.Context(), edge1); err != nil || len(r.Absent) != len(parts(wish{})) {
		t.Fatalf("without any part: %v, %v", r, err)
	}
	if err := os.WriteFile(filepath.Join(state, kubernetesCA.file()), []byte("zzz"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PrepareKubernetes(t.Context(), edge1); status.Code(err) != codes.DataLoss || !strings.Contains(err.Error(), "kubernetes/kubernetes.pem") {
		t.Errorf("prepare with a damaged CA: %v", err)
	}
	if r, err := c.ListCertificates(t.Context(), &trust.ListCertificatesRequest{}); err != nil || len(r.Certificates) != 1 {
		t.Errorf("list with a damaged CA: %v, %v", r, err)
	}
}

// Two processes answer while one replaces the other: what they give fits together.
func TestTwoGive(t *testing.T) {
	state, dir := t.TempDir(), t.TempDir()
	for _, p := range parts(wish{}) {
		if err := os.Mkdir(filepath.Join(dir, p.name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	clients := []trust.Client{serveBoth(t, state, dir, noNames), serveBoth(t, state, dir, noNames)}
	done := make(chan error)
	for n := range 8 {
		go func() {
			_, err := clients[n%2].PrepareKubernetes(context.Background(), edge1)
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, p := range parts(wish{}) {
		for _, one := range p.pairs {
			name := filepath.Join(dir, p.name, one.file)
			if _, err := tls.LoadX509KeyPair(name+".crt", name+".key"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if again := prepareParts(t, clients[0]); again != nil {
		t.Errorf("written again: %v", again)
	}
}

// A renewal under readers who open certificate and key one after the other, as all
// parts do: whatever they find is a pair.
func TestReadersDuringRenewal(t *testing.T) {
	dir, c := makeParts(t)
	stop := make(chan struct{})
	found := make(chan error, 1)
	go func() {
		defer close(found)
		for name := filepath.Join(dir, "kube-apiserver/tls"); ; {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := tls.LoadX509KeyPair(name+".crt", name+".key"); err != nil {
				found <- err
				return
			}
		}
	}()
	for n := range 50 {
		address := []string{"10.0.2.15", "10.0.2.16"}[n%2]
		if _, err := c.PrepareKubernetes(t.Context(), &trust.PrepareKubernetesRequest{Node: "edge1", Addresses: []string{address}, ServiceNetwork: "10.96.0.0/16"}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-found; err != nil {
		t.Error(err)
	}
}
