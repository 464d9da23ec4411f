package render

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// pullAddress is the machine that has the registries and the proxy: not on the
	// loopback network, which no Go program asks a proxy for.
	pullAddress = "198.51.100.7"
	// deadAddress swallows what is sent to it: it has a route, and no machine has it.
	deadAddress = "203.0.113.9"

	secureRegistry = pullAddress + ":5000" // TLS from its own CA, and basic auth
	openRegistry   = pullAddress + ":5001" // no TLS, no password
	deadRegistry   = deadAddress + ":5000"
	proxyAddress   = pullAddress + ":8888"

	// pullers is the registry's file of users: me, with the password secret.
	pullers = "me:$2b$04$ugPd4wnRL1XFIIIPzAwnyuMNFhDeOSnTDJlxz.jmYBGyE3M6n6LEO\n"
)

// Images come from Debian's registry and through tinyproxy to containerd's own code, which
// reads the files that are rendered here. All of it is in a network namespace.
func TestPull(t *testing.T) {
	if os.Getenv("PULL_INSIDE") == "" {
		pullInside(t)
		return
	}
	p := newPulls(t)
	auth := []string{"me", "secret"}
	private := Registry{Name: secureRegistry, CA: p.authority}
	for _, c := range []struct {
		name       string
		registries Registries
		image      string
		login      []string
		fails      string
		proxied    string
	}{
		{name: "a private CA and a password", registries: Registries{Hosts: []Registry{private}}, image: secureRegistry + "/library/app:1", login: auth},
		{name: "a private CA that is not configured", image: secureRegistry + "/library/app:1", login: auth, fails: "certificate signed by unknown authority"},
		{name: "no password", registries: Registries{Hosts: []Registry{private}}, image: secureRegistry + "/library/app:1", fails: "no basic auth credentials"},
		{name: "a wrong password", registries: Registries{Hosts: []Registry{private}}, image: secureRegistry + "/library/app:1", login: []string{"me", "wrong"}, fails: "401"},
		{name: "no TLS", registries: Registries{Hosts: []Registry{{Name: openRegistry, HTTP: true}}}, image: openRegistry + "/library/app:1"},
		{name: "no TLS where it is not configured", image: openRegistry + "/library/app:1", fails: "server gave HTTP response to HTTPS client"},
		{name: "a first mirror that does not answer", registries: Registries{Hosts: []Registry{
			{Name: "docker.io", Mirrors: []string{deadRegistry, secureRegistry}}, private}}, image: "docker.io/library/app:1", login: auth},
		{name: "a mirror with a path, for every registry", registries: Registries{Hosts: []Registry{
			{Name: "*", Mirrors: []string{openRegistry + "/cache"}}, {Name: openRegistry, HTTP: true}}}, image: "quay.io/library/app:1"},
		{name: "a proxy", registries: Registries{Hosts: []Registry{private}, Proxy: "http://" + proxyAddress}, image: secureRegistry + "/library/app:1", login: auth, proxied: secureRegistry},
		{name: "not through the proxy", registries: Registries{Hosts: []Registry{private}, Proxy: "http://" + proxyAddress, ProxyExcept: []string{"198.51.100.0/24"}}, image: secureRegistry + "/library/app:1", login: auth},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := p.proxied()
			out, err := p.pull(t, c.registries, c.image, c.login)
			switch {
			case c.fails == "" && (err != nil || strings.TrimSpace(out) != strconv.Itoa(p.bytes)):
				t.Fatalf("%v: %s", err, out)
			case c.fails != "" && (err == nil || !strings.Contains(out, c.fails)):
				t.Fatalf("it did not fail for %q: %v: %s", c.fails, err, out)
			}
			through := strings.TrimPrefix(p.proxied(), before)
			if c.proxied == "" && through != "" || !strings.Contains(through, c.proxied) {
				t.Errorf("through the proxy: %q", through)
			}
		})
	}
}

// pullInside runs the test in a separate network namespace.
func pullInside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	for _, program := range []string{"docker-registry", "tinyproxy"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s here: apt install %s", program, program)
		}
	}
	helper := filepath.Join(t.TempDir(), "pull")
	build := exec.Command("go", "build", "-o", helper, "./pull")
	build.Dir = "../../../buildkit/packages/kubernetes"
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build pull: %v\n%s", err, out)
	}
	inside := exec.Command("unshare", "--net", "sh", "-ec", `
		ip link set lo up
		ip address add `+pullAddress+`/24 dev lo
		ip route add `+deadAddress+`/32 dev lo
		exec "$0" -test.run='^TestPull$' -test.v`, os.Args[0])
	inside.Env = append(os.Environ(), "PULL_INSIDE="+helper)
	inside.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := inside.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// pulls are the registries, each with the image library/app:1, and the proxy.
type pulls struct {
	dir       string
	authority string // PEM
	bytes     int    // of the image
}

func newPulls(t *testing.T) *pulls {
	p := &pulls{dir: t.TempDir()}
	p.certificates(t)
	p.write(t, "users", pullers)
	registry := `version: 0.1
storage: {filesystem: {rootdirectory: %s}}
http: {addr: "%s", secret: s%s}
%s`
	p.write(t, "secure.yml", fmt.Sprintf(registry, p.path("secure"), secureRegistry,
		fmt.Sprintf(", tls: {certificate: %s, key: %s}", p.path("tls.crt"), p.path("tls.key")),
		fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", p.path("users"))))
	p.write(t, "open.yml", fmt.Sprintf(registry, p.path("open"), openRegistry, "", ""))
	p.write(t, "tinyproxy.conf", fmt.Sprintf("Listen %s\nPort 8888\nTimeout 60\nLogFile \"%s\"\nLogLevel Connect\nAllow 198.51.100.0/24\n", pullAddress, p.path("proxy.log")))
	p.write(t, "proxy.log", "")
	os.Chmod(p.path("proxy.log"), 0o666)
	p.start(t, secureRegistry, "docker-registry", "serve", p.path("secure.yml"))
	p.start(t, openRegistry, "docker-registry", "serve", p.path("open.yml"))
	p.start(t, proxyAddress, "tinyproxy", "-d", "-c", p.path("tinyproxy.conf"))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(p.authority))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	p.push(t, client, "https://me:secret@"+secureRegistry, "library/app")
	p.push(t, client, "http://"+openRegistry, "library/app")
	p.push(t, client, "http://"+openRegistry, "cache/library/app")
	return p
}

func (p *pulls) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pulls) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start runs a server until the test ends, and waits until it listens.
func (p *pulls) start(t *testing.T, address, program string, args ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	deadline := time.After(time.Minute)
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("%s ended: %v\n%s", program, err, log.String())
		case <-deadline:
			t.Fatalf("%s does not listen: %v", program, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// certificates makes the CA, and a certificate for the registry.
func (p *pulls) certificates(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.ParseIP(pullAddress)}}
	toPEM := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	p.authority = toPEM("CERTIFICATE", der, err)
	der, err = x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	p.write(t, "tls.crt", toPEM("CERTIFICATE", der, err))
	der, err = x509.MarshalPKCS8PrivateKey(key)
	p.write(t, "tls.key", toPEM("PRIVATE KEY", der, err))
}

// push puts the image into a registry.
func (p *pulls) push(t *testing.T, client *http.Client, registry, repository string) {
	t.Helper()
	p.bytes = 0
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}
	send := func(method, url, kind string, body []byte, want int) *http.Response {
		t.Helper()
		request, err := http.NewRequest(method, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", kind)
		if strings.HasPrefix(registry, "https://me:secret@") {
			request.SetBasicAuth("me", "secret")
		}
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != want {
			text, _ := io.ReadAll(answer.Body)
			t.Fatalf("%s %s: %s: %s", method, url, answer.Status, text)
		}
		return answer
	}
	blob := func(kind, text string) descriptor {
		d := descriptor{kind, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))), len(text)}
		place, err := send("POST", registry+"/v2/"+repository+"/blobs/uploads/", "", nil, http.StatusAccepted).Location()
		if err != nil {
			t.Fatal(err)
		}
		query := place.Query()
		query.Set("digest", d.Digest)
		place.RawQuery = query.Encode()
		send("PUT", place.String(), "application/octet-stream", []byte(text), http.StatusCreated)
		p.bytes += len(text)
		return d
	}
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": blob("application/vnd.oci.image.config.v1+json", "{}"),
		"layers": []descriptor{blob("application/vnd.oci.image.layer.v1.tar", strings.Repeat("layer ", 100_000))},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.bytes += len(manifest)
	send("PUT", registry+"/v2/"+repository+"/manifests/1", manifestType, manifest, http.StatusCreated)
}

// pull renders the files and has containerd's code use them. It returns how many bytes
// came or, with an error, why not.
func (p *pulls) pull(t *testing.T, r Registries, image string, login []string) (string, error) {
	t.Helper()
	n := home()
	n.Registries, n.Address = r, netip.MustParseAddr("192.0.2.1")
	folder, err := os.MkdirTemp(p.dir, "files")
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, f := range containerd(n).Files {
		text := strings.ReplaceAll(f.Text, hostsPath, filepath.Join(folder, hostsDir))
		p.write(t, filepath.Join(filepath.Base(folder), f.Name), text)
		if strings.HasPrefix(f.Name, "proxy") {
			args = append(args, "--environment", filepath.Join(folder, f.Name))
		}
	}
	args = append(append(args, filepath.Join(folder, hostsDir), image), login...)
	cmd := exec.CommandContext(t.Context(), os.Getenv("PULL_INSIDE"), args...)
	var says bytes.Buffer
	cmd.Stderr = &says
	out, err := cmd.Output()
	if err != nil {
		return says.String(), err
	}
	return string(out), nil
}

// proxied is what the proxy has logged of connections that it made.
func (p *pulls) proxied() string {
	text, _ := os.ReadFile(p.path("proxy.log"))
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "CONNECT") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
