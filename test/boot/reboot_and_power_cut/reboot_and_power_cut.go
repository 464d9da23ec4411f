// Scenario reboot_and_power_cut: the plug is pulled while objects are written as fast as
// the API takes them; then the machine is told to reboot. It becomes Ready by itself,
// as the same node of the same cluster, with the same pods serving, and every object
// whose creation was acknowledged. QEMU is killed: what the guest had flushed is on
// the disk, the rest is not. If it fails, a power failure costs a cluster.
package reboot_and_power_cut

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/storage"
	"github.com/dactyl-os/dactyl/test/vm"
)

const (
	writers   = 4
	namespace = "power"
)

// Scenario pulls the plug so often, and reboots once. It wants vm.NodePort forwarded.
func Scenario(t *testing.T, r *vm.Running, cuts int) {
	r.WaitReady()
	r.LoadImage(vm.TestImage(t))
	c := r.Cluster()
	c.Run("create", "namespace", namespace)
	c.Namespace = namespace
	serving := r.Serve(c)
	random := seeded(t)
	who := identity(t, r)
	var kept []string
	for cut := range cuts {
		l := startLoad(t, r, fmt.Sprintf("cut-%d", cut))
		wait(t.Context(), time.Second+time.Duration(random.Int64N(int64(4*time.Second))))
		r.Kill()
		written := l.stop()
		if len(written) == 0 {
			t.Errorf("cut %d: nothing was written before it", cut+1)
		}
		kept = append(kept, written...)
		r.PowerOn()
		came(t, r, serving, who, kept)
	}
	reboot(t, r)
	came(t, r, serving, who, kept)
	t.Logf("%d objects written and kept", len(kept))

	mounts, err := storage.NewClient(r.Admin).ListMounts(vm.Context(t), &storage.ListMountsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts.Mounts {
		if m.Volume == "ephemeral" && strings.Contains(m.Note, "anew") {
			t.Errorf("EPHEMERAL was made anew (%s): its journal should have been enough", m.Note)
		}
	}
}

// seeded returns a generator, and says with what it can be had again.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// reboot returns when another boot of the machine answers.
func reboot(t *testing.T, r *vm.Running) {
	t.Helper()
	boot, err := r.Machine0().GetVersion(vm.Context(t), &machine.GetVersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Machine0().Reboot(vm.Context(t), &machine.RebootRequest{}); err != nil {
		t.Fatal(err)
	}
	ctx := vm.Context(t)
	vm.Eventually(t, func() string {
		if v, err := r.Machine0().GetVersion(ctx, &machine.GetVersionRequest{}); err != nil || v.BootId == boot.BootId {
			return fmt.Sprintf("the machine has not rebooted: %v", err)
		}
		return ""
	})
}

// came checks that everything is as it was before a cut.
func came(t *testing.T, r *vm.Running, serving *vm.Serving, who string, kept []string) {
	t.Helper()
	begin := time.Now()
	r.WaitReady()
	ready := time.Since(begin)
	serving = serving.On(r)
	serving.Wait()
	t.Logf("Ready after %v, serving %v later", ready.Round(time.Second), (time.Since(begin) - ready).Round(time.Second))
	if now := identity(t, r); now != who {
		t.Errorf("the node is %s: was %s", now, who)
	}
	there := map[string]bool{}
	for _, name := range strings.Fields(r.Cluster().Run("get", "configmaps", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}")) {
		there[name] = true
	}
	for _, name := range kept {
		if !there[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
}

// identity is the cluster's CA, its first namespace and the node, which none are made twice.
func identity(t *testing.T, r *vm.Running) string {
	t.Helper()
	info, err := r.Kube().GetKubeconfigInfo(vm.Context(t), &kube.GetKubeconfigInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	status, err := r.Kube().GetStatus(vm.Context(t), &kube.GetStatusRequest{Brief: true})
	if err != nil {
		t.Fatal(err)
	}
	uids := r.Cluster().Run("get", "node/"+status.Node, "namespace/kube-system", "deployment/front", "-n", namespace, "-o",
		`jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}, {end}`)
	return fmt.Sprintf("%s%x", uids, sha256.Sum256(info.Authority))
}

// wait lets time pass: when the plug is pulled is what this scenario varies.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// load writes ConfigMaps until the machine is gone.
type load struct {
	writing sync.WaitGroup
	cancel  context.CancelFunc

	mu           sync.Mutex
	acknowledged []string // guarded by mu
}

func startLoad(t *testing.T, r *vm.Running, prefix string) *load {
	t.Helper()
	client := apiClient(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel}
	for w := range writers {
		l.writing.Go(func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("%s-%d-%d", prefix, w, n)
				if err := client.create(ctx, name); err != nil {
					return // the plug is out
				}
				l.mu.Lock()
				l.acknowledged = append(l.acknowledged, name)
				l.mu.Unlock()
			}
		})
	}
	return l
}

// stop returns the names of what was acknowledged. An answer that was on its way
// when the plug was pulled is one too.
func (l *load) stop() []string {
	l.cancel()
	l.writing.Wait()
	return l.acknowledged
}

// api is kube-apiserver without kubectl, which writes one object a second.
type api struct {
	http   *http.Client
	server string
}

func apiClient(t *testing.T, r *vm.Running) api {
	t.Helper()
	text, err := vm.Kubeconfig(vm.Context(t), r.Admin, r.KubeURL())
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Authority []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Certificate []byte `json:"client-certificate-data"`
				Key         []byte `json:"client-key-data"`
			}
		}
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(config.Clusters[0].Cluster.Authority)
	user := config.Users[0].User
	pair, err := tls.X509KeyPair(user.Certificate, user.Key)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, MaxIdleConnsPerHost: writers,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return api{&http.Client{Transport: transport}, r.KubeURL()}
}

// create returns when the object is acknowledged.
func (a api) create(ctx context.Context, name string) error {
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"text":%q}}`, name, strings.Repeat(name+" ", 50))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.server+"/api/v1/namespaces/"+namespace+"/configmaps", strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := a.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusCreated {
		return errors.Join(fmt.Errorf("create %s: %s: %s", name, answer.Status, text), err)
	}
	return nil // 201 is what etcd has acknowledged, whatever becomes of the rest
}
