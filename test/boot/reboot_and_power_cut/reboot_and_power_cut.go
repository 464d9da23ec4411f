// Scenario reboot_and_power_cut: the plug is pulled while objects are written as fast as
// the API takes them, once more as soon as it takes them again, and the machine is told
// to reboot, which pods are ended for. It becomes Ready by itself, as the same node of the
// same cluster, with the same pods serving, and every object whose creation was
// acknowledged. QEMU is killed: what the guest had flushed is on the disk, the rest is
// not. If it fails, a power failure costs a cluster. Cuts while a cluster comes are in
// power_cut.
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

// Scenario wants vm.NodePort forwarded.
func Scenario(t *testing.T, r *vm.Running) {
	w := begin(t, r)
	w.cut(t)
	w.answers(t)
	w.cut(t)
	w.came(t)
	w.reboot(t)
	w.came(t)
	w.end(t)
}

// workload is what must be there again after each cut.
type workload struct {
	r      *vm.Running
	random *rand.Rand
	who    string
	cuts   int
	kept   []string // objects whose creation was acknowledged
}

func begin(t *testing.T, r *vm.Running) *workload {
	t.Helper()
	r.WaitReady()
	r.Serving()
	r.Cluster().Run("create", "namespace", namespace)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return &workload{r: r, random: rand.New(rand.NewPCG(seed, 0)), who: identity(t, r)}
}

// cut pulls the plug some seconds after the first write was acknowledged.
func (w *workload) cut(t *testing.T) {
	t.Helper()
	w.cuts++
	l := startLoad(t, w.r, fmt.Sprintf("cut-%d", w.cuts))
	vm.Eventually(t, l.lacks)
	vm.Elapse(t.Context(), time.Duration(w.random.Int64N(int64(5*time.Second))))
	w.r.Kill()
	w.kept = append(w.kept, l.stop()...)
	w.r.PowerOn()
}

// reboot asks for one.
func (w *workload) reboot(t *testing.T) {
	t.Helper()
	boot, err := w.r.Machine0().GetVersion(vm.Context(t), &machine.GetVersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.r.Machine0().Reboot(vm.Context(t), &machine.RebootRequest{}); err != nil {
		t.Fatal(err)
	}
	ctx := vm.Context(t)
	vm.Eventually(t, func() string {
		if v, err := w.r.Machine0().GetVersion(ctx, &machine.GetVersionRequest{}); err != nil || v.BootId == boot.BootId {
			return fmt.Sprintf("the machine has not rebooted: %v", err)
		}
		return ""
	})
}

// answers waits for the API alone: the node is not Ready yet, and few pods run.
func (w *workload) answers(t *testing.T) {
	t.Helper()
	start := time.Now()
	w.r.WaitHealthy("kube-apiserver")
	t.Logf("the API answers after %v", time.Since(start).Round(time.Second))
	w.hasAll(t)
}

// came checks that everything is as it was before.
func (w *workload) came(t *testing.T) {
	t.Helper()
	start := time.Now()
	w.r.WaitReady()
	ready := time.Since(start)
	w.r.Serving()
	t.Logf("Ready after %v, serving %v later", ready.Round(time.Second), (time.Since(start) - ready).Round(time.Second))
	if now := identity(t, w.r); now != w.who {
		t.Errorf("the node is %s: was %s", now, w.who)
	}
	w.hasAll(t)
}

func (w *workload) hasAll(t *testing.T) {
	t.Helper()
	there := map[string]bool{}
	for _, name := range strings.Fields(w.r.Cluster().Run("get", "configmaps", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}")) {
		there[name] = true
	}
	for _, name := range w.kept {
		if !there[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
}

// end checks that nothing was thrown away for it.
func (w *workload) end(t *testing.T) {
	t.Helper()
	t.Logf("%d objects written and kept", len(w.kept))
	mounts, err := storage.NewClient(w.r.Admin).ListMounts(vm.Context(t), &storage.ListMountsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts.Mounts {
		if m.Volume == "ephemeral" && strings.Contains(m.Note, "recreated") {
			t.Errorf("EPHEMERAL was recreated (%s): its journal should have been enough", m.Note)
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
	uids := r.Cluster().Run("get", "node/"+status.Node, "namespace/kube-system", "deployment/front", "-n", vm.ServingNamespace, "-o",
		`jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}, {end}`)
	return fmt.Sprintf("%s%x", uids, sha256.Sum256(info.Authority))
}

// load writes ConfigMaps until the machine is gone.
type load struct {
	writing sync.WaitGroup
	cancel  context.CancelFunc

	mu           sync.Mutex
	acknowledged []string // guarded by mu
	refused      error    // the last; guarded by mu
}

// lacks says why nothing has been written yet.
func (l *load) lacks() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.acknowledged) > 0 {
		return ""
	}
	return fmt.Sprintf("nothing has been written: %v", l.refused)
}

func startLoad(t *testing.T, r *vm.Running, prefix string) *load {
	t.Helper()
	client := apiClient(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel}
	for w := range writers {
		l.writing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("%s-%d-%d", prefix, w, n)
				if err := client.create(ctx, name); err != nil {
					l.refuse(err)
					vm.Pause(ctx) // the plug is out, or the API has only just begun
					continue
				}
				l.acknowledge(name)
			}
		})
	}
	return l
}

func (l *load) acknowledge(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged = append(l.acknowledged, name)
}

func (l *load) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = err
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
