package render

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/dactyl-os/dactyl/ipc/config/extraargs"
)

// checkVariable names the environment variable that has this test run, as make test
// does: it builds the code of all components, which takes as long as building the image.
const checkVariable = "DACTYL_CHECK_COMPONENTS"

// What the components themselves say of what is rendered.
func TestComponents(t *testing.T) {
	if os.Getenv(checkVariable) == "" {
		t.Skipf("set %s=1 to build the components' code and check with it", checkVariable)
	}
	c := newComponents(t)
	t.Run("arguments", c.testArguments)
	t.Run("host paths", c.testHostPaths)
}

// Each component takes what is rendered for it: by default, with every flag that
// cluster.yaml may set, and with every example in the documentation.
func (c components) testArguments(t *testing.T) {
	for _, component := range extraargs.Components() {
		t.Run(component, func(t *testing.T) {
			c.takes(t, component, nil)
			for _, f := range extraargs.Of(component) {
				extra := map[string]string{f.Name: f.Example}
				if strings.HasPrefix(f.Name, "eviction-soft") { // each is of use with the other
					extra = map[string]string{"eviction-soft": "memory.available<300Mi", "eviction-soft-grace-period": "memory.available=2m"}
				}
				c.takes(t, component, extra)
			}
		})
	}
	examples := 0
	for _, example := range documented(t) {
		for component, extra := range example.Kubernetes.ExtraArgs {
			examples++
			c.takes(t, component, extra)
		}
	}
	if examples < 2 {
		t.Errorf("only %d examples found", examples)
	}
	// What a component does not take, so that the check is one.
	for _, wrong := range []struct{ component, flag, says string }{
		{"kubelet", "--image-gc-low-threshold=95", "must be less than imageGCHighThresholdPercent"},
		{"kubelet", "--eviction-soft=memory.available<1Gi", "grace period"},
		{"kubelet", "--no-such-flag=1", "unknown flag"},
		{"kube-apiserver", "--event-ttl=x", "event-ttl"},
		{"kube-apiserver", "--authorization-mode=None", "authorization-mode"},
		{"kube-controller-manager", "--feature-gates=NoSuchGate=true", "NoSuchGate"},
		{"kube-scheduler", "--kube-api-burst=x", "kube-api-burst"},
		{"kube-proxy", "--nodeport-addresses=x", "x"},
	} {
		args := append(c.arguments(t, wrong.component, nil), wrong.flag)
		if out, err := exec.Command(c.program, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), wrong.says) {
			t.Errorf("%s %s: %v %s, want …%s…", wrong.component, wrong.flag, err, out, wrong.says)
		}
	}
}

// The API server takes the policy on host paths, and it warns of what it should.
func (c components) testHostPaths(t *testing.T) {
	c.write(t, "/policy.json", hostPathWarning()[0].Body)
	const none = ""
	for name, story := range map[string]struct{ object, want string }{
		"a place on the disk":   {`{"kind":"Pod","spec":{"containers":[{"volumeMounts":[{"name":"d","mountPath":"/x"}]}],"volumes":[{"name":"d","hostPath":{"path":"/var/mnt/redis"}}]}}`, none},
		"the place itself":      {`{"kind":"Pod","spec":{"containers":[{"volumeMounts":[{"name":"d","mountPath":"/x"}]}],"volumes":[{"name":"d","hostPath":{"path":"/var/mnt"}}]}}`, none},
		"memory":                {`{"kind":"Pod","spec":{"containers":[{"volumeMounts":[{"name":"d","mountPath":"/x"}]}],"volumes":[{"name":"d","hostPath":{"path":"/data"}}]}}`, "hostPath /data: "},
		"a name that begins so": {`{"kind":"Pod","spec":{"containers":[{"volumeMounts":[{"name":"d","mountPath":"/x"}]}],"volumes":[{"name":"d","hostPath":{"path":"/var/mntx"}}]}}`, "hostPath /var/mntx: "},
		"an init container":     {`{"kind":"Pod","spec":{"containers":[{"name":"a"}],"initContainers":[{"volumeMounts":[{"name":"d","mountPath":"/x","readOnly":false}]}],"volumes":[{"name":"d","hostPath":{"path":"/opt/x"}}]}}`, "hostPath /opt/x: "},
		"node-exporter": {`{"kind":"DaemonSet","spec":{"template":{"spec":{"containers":[{"volumeMounts":[{"name":"root","mountPath":"/host/root","readOnly":true},{"name":"sys","mountPath":"/host/sys"}]}],
			"volumes":[{"name":"root","hostPath":{"path":"/"}},{"name":"sys","hostPath":{"path":"/sys"}}]}}}}`, none},
		"two of a deployment": {`{"kind":"Deployment","spec":{"template":{"spec":{"containers":[{"volumeMounts":[{"name":"a","mountPath":"/a"},{"name":"b","mountPath":"/b"}]}],
			"volumes":[{"name":"a","hostPath":{"path":"/a"}},{"name":"b","hostPath":{"path":"/b"}},{"name":"c","emptyDir":{}}]}}}}`, "hostPath /a, /b: "},
		"a cron job": {`{"kind":"CronJob","spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"volumeMounts":[{"name":"a","mountPath":"/a"}]}],
			"volumes":[{"name":"a","hostPath":{"path":"/srv"}}]}}}}}}`, "hostPath /srv: "},
		"no volumes": {`{"kind":"Pod","spec":{"containers":[{"name":"a"}]}}`, none},
	} {
		c.write(t, "/object.json", story.object)
		out, err := exec.Command(c.program, "policy", c.dir+"/policy.json", c.dir+"/object.json").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || !strings.HasPrefix(got, story.want) || (story.want == none) != (got == "") {
			t.Errorf("%s: %v %q, want %q…", name, err, got, story.want)
		}
	}
}

type components struct {
	program string
	dir     string // has the files that arguments name
}

func newComponents(t *testing.T) components {
	c := components{filepath.Join(t.TempDir(), "arguments"), t.TempDir()}
	build := exec.Command("go", "test", "-c", "-o", c.program, "./arguments")
	build.Dir = "../../../buildkit/packages/kubernetes"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return c
}

func (c components) takes(t *testing.T, component string, extra map[string]string) {
	t.Helper()
	if out, err := exec.Command(c.program, c.arguments(t, component, extra)...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v: %s", component, extra, err, out)
	}
}

// onMachine are paths of a machine in flags and files.
var onMachine = regexp.MustCompile(`/(run/from/(?:kubed|trustd)|var/log/kubernetes)/[^", \n]*`)

// arguments are those of a component, naming files that are there: those that are
// rendered, and keys and certificates as trustd would write them.
func (c components) arguments(t *testing.T, component string, extra map[string]string) []string {
	t.Helper()
	n := home()
	n.ExtraArgs = map[string]map[string]string{component: extra}
	p := programs(t, n)[component]
	local := func(text string) string {
		return onMachine.ReplaceAllStringFunc(text, func(path string) string {
			if strings.HasPrefix(path, "/run/from/trustd/") {
				c.key(t, path)
			}
			return c.dir + path
		})
	}
	for _, f := range p.Files {
		c.write(t, "/run/from/kubed/"+p.Receiver+"/"+f.Name, local(f.Text))
	}
	args := []string{component}
	for _, a := range p.Args {
		args = append(args, local(a))
	}
	return args
}

func (c components) write(t *testing.T, path, text string) {
	t.Helper()
	path = c.dir + path
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// key writes what stands for one of trustd's files.
func (c components) key(t *testing.T, path string) {
	t.Helper()
	text := certificate
	switch filepath.Ext(path) {
	case ".key":
		text = private
	case ".pub":
		text = public
	case ".yaml":
		text = `{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [{"resources": ["secrets"],
			"providers": [{"secretbox": {"keys": [{"name": "1", "secret": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}]}}]}]}`
	}
	c.write(t, path, text)
}

var certificate, private, public = func() (string, string, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	cert, err1 := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	secret, err2 := x509.MarshalECPrivateKey(key)
	open, err3 := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err1 != nil || err2 != nil || err3 != nil {
		panic(fmt.Sprint(err1, err2, err3))
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return block("CERTIFICATE", cert), block("EC PRIVATE KEY", secret), block("PUBLIC KEY", open)
}()

// example is what of a cluster.yaml is checked here.
type example struct {
	Kubernetes struct {
		ExtraArgs map[string]map[string]string `yaml:"extraArgs"`
	}
}

// documented are the examples in the documentation. That configd takes them is tested
// there.
func documented(t *testing.T) (all []example) {
	pages, err := filepath.Glob("../../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	for _, page := range append(pages, "../../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range block.FindAllSubmatch(text, -1) {
			var e example
			if err := yaml.Unmarshal(at[1], &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
	}
	return all
}
