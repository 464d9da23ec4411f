package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/etcd"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

const deadline = 20 * time.Second

// A machine without a cluster says so, starts nothing and asks nobody who it is.
func TestUnconfigured(t *testing.T) {
	w := newWorld(t)
	w.kubernetes = &config.Kubernetes{}
	k := w.kubed()
	k.eventually("the message", func() bool { return k.status().State == kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED })
	if got := k.status(); got.Configured || got.Ready || len(got.Components) > 0 {
		t.Errorf("%v", got)
	}
	_, err := k.client.GetKubeconfigInfo(t.Context(), &kube.GetKubeconfigInfoRequest{})
	if status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	_, err = k.client.RestartComponent(t.Context(), &kube.RestartComponentRequest{Name: "kubelet"})
	if status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	if got := w.started(); len(got) > 0 {
		t.Errorf("started %v", got)
	}
}

// From the configuration to a node that is Ready, then a new kubed that changes nothing.
func TestANodeBecomesReady(t *testing.T) {
	w := newWorld(t)
	k := w.kubed()
	k.eventually("ready", func() bool { return k.status().Ready })
	got := k.status()
	if got.Cluster != "home" || got.Node != "edge1" || got.Address != "10.0.2.15" || got.State != kube.ClusterState_CLUSTER_STATE_READY || !got.NodeReady || len(got.Components) != 10 {
		t.Errorf("%v", got)
	}
	apiserver := func(all []*kube.Component) *kube.Component {
		return all[slices.IndexFunc(all, func(c *kube.Component) bool { return c.Name == "kube-apiserver" })]
	}
	k.eventually("figures that are not from before", func() bool { return apiserver(k.status().Components).Pid != 0 })
	api := apiserver(k.status().Components)
	if api.State != machine.DaemonState_DAEMON_STATE_UP || api.Version != render.KubernetesVersion || api.Pid == 0 || api.Uid != 111 || api.MemoryBytes != 200<<20 || !api.Healthy || api.WaitingFor != "" || api.Reason != "" {
		t.Errorf("%v", api)
	}
	brief, err := k.client.GetStatus(t.Context(), &kube.GetStatusRequest{Brief: true})
	if err != nil || !brief.Ready || apiserver(brief.Components).State != machine.DaemonState_DAEMON_STATE_UP || apiserver(brief.Components).MemoryBytes != 0 {
		t.Errorf("in brief: %v, %v", brief, err)
	}
	order := w.started()
	for _, c := range []struct{ first, then string }{
		{"etcdd", "kube-apiserver"}, {"pods", "containerd"}, {"containerd", "podd"}, {"kube-apiserver", "kubelet"}, {"kube-apiserver", "coredns"},
	} {
		if slices.Index(order, c.first) > slices.Index(order, c.then) {
			t.Errorf("%s was started before %s: %v", c.then, c.first, order)
		}
	}
	if !w.labelled() || w.applied() != 8 {
		t.Errorf("the cluster is furnished with %d objects; the node is labelled: %v", w.applied(), w.labelled())
	}
	w.filesAreThere(t)
	if text, err := os.ReadFile(filepath.Join(w.files.gives, "pods/cni/10-dactyl.conflist")); err != nil || !strings.Contains(string(text), `"mtu": 1400`) {
		t.Errorf("the pods' bridge has not the size of the uplink's packets: %v\n%s", err, text)
	}

	k.stop()
	before := w.started()
	k = w.kubed()
	k.eventually("ready again", func() bool { return k.status().Ready })
	if got := w.started(); !slices.Equal(got, before) {
		t.Errorf("the new kubed had started: %v", got[len(before):])
	}
}

func TestRestartComponent(t *testing.T) {
	w := newWorld(t)
	k := w.kubed()
	k.eventually("ready", func() bool { return k.status().Ready })
	r, err := k.client.RestartComponent(t.Context(), &kube.RestartComponentRequest{Name: "kube-scheduler"})
	if err != nil || r.Pid == 0 {
		t.Errorf("%v %v", r, err)
	}
	k.eventually("ready again", func() bool { return k.status().Ready })
	_, err = k.client.RestartComponent(t.Context(), &kube.RestartComponentRequest{Name: "networkd"})
	if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "kube-scheduler") {
		t.Error(err)
	}
}

func TestKubeconfigInfo(t *testing.T) {
	w := newWorld(t)
	k := w.kubed()
	k.eventually("ready", func() bool { return k.status().Ready })
	got, err := k.client.GetKubeconfigInfo(t.Context(), &kube.GetKubeconfigInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Cluster != "home" || !slices.Equal(got.Servers, []string{"https://10.0.2.15:6443"}) || string(got.Authority) != w.ca {
		t.Errorf("%v", got)
	}
}

// What waits says for whom, and why that one is not well.
func TestStatusNamesWhatIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.ill("etcdd", "etcd: no leader")
	k := w.kubed()
	k.eventually("the reason", func() bool { return k.status().Message == "etcdd: etcd: no leader" })
	for _, c := range k.status().Components {
		if want := map[string]string{"kube-apiserver": "etcdd", "kube-scheduler": "kube-apiserver"}[c.Name]; want != "" && c.WaitingFor != want {
			t.Errorf("%s waits for %q, want %q", c.Name, c.WaitingFor, want)
		}
	}
	_, err := k.client.RestartComponent(t.Context(), &kube.RestartComponentRequest{Name: "kubelet"})
	if status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	w.ill("etcdd", "")
	k.eventually("ready", func() bool { return k.status().Ready })
}

// A link's address is the node's; the loopback link's own, pods' networks' and IPv6 are not.
func TestUsableAddresses(t *testing.T) {
	got := usable([]*network.Address{
		{Link: "lo", Address: "127.0.0.1/8", Scope: "host", Origin: "kernel"},
		{Link: "lo", Address: "192.0.0.8/32", Scope: "host", Origin: "static"},
		{Link: "eth0", Address: "fd00::5/64", Scope: "global", Origin: "static"},
		{Link: "eth0", Address: "10.0.2.15/24", Scope: "global", Origin: "dhcp"},
		{Link: "cni0", Address: "10.244.0.1/24", Scope: "global", Origin: "other"},
	})
	if len(got) != 1 || got[0].String() != "10.0.2.15" {
		t.Errorf("%v", got)
	}
}

// world is all whom kubed calls, at once, with PID 1 and a cluster that obey.
type world struct {
	configServer
	etcdServer
	machineServer
	networkServer
	podsServer
	trustServer
	t     *testing.T
	conn  ipc.Conn
	files files
	ca    string

	kubernetes *config.Kubernetes

	mu       sync.Mutex // guards what follows
	programs map[string][]string
	order    []string
	illness  map[partName]string
	objects  map[string]bool
	label1   bool
}

type (
	configServer  = config.Server
	etcdServer    = etcd.Server
	machineServer = machine.Server
	networkServer = network.Server
	podsServer    = pods.Server
	trustServer   = trust.Server
)

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{
		t: t, programs: map[string][]string{}, illness: map[partName]string{}, objects: map[string]bool{},
		files:      files{gives: filepath.Join(dir, "gives"), keeps: filepath.Join(dir, "keeps"), keys: filepath.Join(dir, "keys")},
		ca:         "-----BEGIN CERTIFICATE-----\n",
		kubernetes: &config.Kubernetes{Configured: true, Cluster: "home", PodNetwork: "10.244.0.0/16", ServiceNetwork: "10.96.0.0/16", Role: config.NodeRole_NODE_ROLE_CONTROL_PLANE},
	}
	may := map[string][]string{
		config.Service: {"GetKubernetes"}, etcd.Service: {"GetStatus"}, machine.Service: {"GetVersion", "ListDaemons", "RestartDaemon", "StartProgram", "StopProgram"},
		network.Service: {"ListAddresses", "ListLinks", "ListResolvers"}, pods.Service: {"GetRuntime"}, trust.Service: {"PrepareKubernetes"},
	}
	w.conn = ipctest.Pair(t, may, func(r ipc.Registrar) {
		config.Register(r, w)
		etcd.Register(r, etcdOf{w})
		machine.Register(r, w)
		network.Register(r, w)
		pods.Register(r, w)
		trust.Register(r, w)
	})
	return w
}

// kubed1 is one process of kubed.
type kubed1 struct {
	*testing.T
	client kube.Client
	stop   func()
}

func (w *world) kubed() *kubed1 {
	p := peers{
		config.NewClient(w.conn), etcd.NewClient(w.conn), machine.NewClient(w.conn), network.NewClient(w.conn), pods.NewClient(w.conn), trust.NewClient(w.conn),
	}
	s := newServer(p, w.files, w, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(w.t.Context())
	var jobs sync.WaitGroup
	for _, job := range []func(context.Context) error{s.decide, s.follow, s.observe} {
		jobs.Go(func() {
			if err := job(ctx); err != nil {
				w.t.Error(err)
			}
		})
	}
	conn := ipctest.Pair(w.t, map[string][]string{kube.Service: {"GetStatus", "RestartComponent", "GetKubeconfigInfo"}}, func(r ipc.Registrar) { kube.Register(r, s) })
	stop := func() { cancel(); jobs.Wait() }
	w.t.Cleanup(stop)
	return &kubed1{w.t, kube.NewClient(conn), stop}
}

func (k *kubed1) status() *kube.GetStatusResponse {
	k.Helper()
	r, err := k.client.GetStatus(k.Context(), &kube.GetStatusRequest{})
	if err != nil {
		k.Fatal(err)
	}
	return r
}

func (k *kubed1) eventually(what string, is func() bool) {
	k.Helper()
	for end := time.Now().Add(deadline); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			k.Fatalf("%s: not within %v: %v", what, deadline, k.status())
		}
	}
}

func (w *world) started() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.order)
}

func (w *world) applied() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.objects)
}

func (w *world) labelled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.label1
}

func (w *world) ill(name partName, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.illness[name] = why
}

// problem is why a part is not healthy: it does not run, or the test says so.
func (w *world) problem(name partName) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.programs[string(name)] == nil {
		return errors.New("connection refused")
	}
	if why := w.illness[name]; why != "" {
		return errors.New(why)
	}
	return nil
}

// filesAreThere: every file that a flag of a running program names, for its group to read.
func (w *world) filesAreThere(t *testing.T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	named := 0
	for name, args := range w.programs {
		for _, a := range args {
			_, path, ok := strings.Cut(a, "/run/from/kubed/")
			if !ok {
				continue
			}
			named++
			info, err := os.Stat(filepath.Join(w.files.gives, path))
			if err != nil {
				t.Errorf("%s %s: %v", name, a, err)
			} else if info.Mode() != given {
				t.Errorf("%s %s has mode %v", name, a, info.Mode())
			}
		}
	}
	if named < 8 {
		t.Errorf("only %d files are named", named)
	}
}

func (w *world) GetKubernetes(context.Context, *config.GetKubernetesRequest) (*config.Kubernetes, error) {
	return w.kubernetes, nil
}

func (w *world) GetVersion(context.Context, *machine.GetVersionRequest) (*machine.Version, error) {
	return &machine.Version{Hostname: "edge1", BootId: "one"}, nil
}

func (w *world) ListDaemons(_ context.Context, ask *machine.ListDaemonsRequest) (*machine.ListDaemonsResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &machine.ListDaemonsResponse{Daemons: []*machine.Daemon{{Name: "logd", State: machine.DaemonState_DAEMON_STATE_UP}}}
	for i, s := range specifications {
		d := &machine.Daemon{Name: string(s.name), State: machine.DaemonState_DAEMON_STATE_IDLE, OnRequest: true}
		if w.programs[d.Name] != nil {
			d.State, d.Pid, d.Uid = machine.DaemonState_DAEMON_STATE_UP, int32(100+i), uint32(107+i)
		}
		if d.Pid != 0 && !ask.Brief {
			d.MemoryBytes = 200 << 20
		}
		r.Daemons = append(r.Daemons, d)
	}
	return r, nil
}

func (w *world) StartProgram(_ context.Context, r *machine.StartProgramRequest) (*machine.StartProgramResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	args := append([]string{"run"}, r.Args...)
	if !slices.Equal(w.programs[r.Name], args) {
		w.programs[r.Name] = args
		w.order = append(w.order, r.Name)
	}
	return &machine.StartProgramResponse{Pid: 7}, nil
}

func (w *world) RestartDaemon(_ context.Context, r *machine.RestartDaemonRequest) (*machine.RestartDaemonResponse, error) {
	return &machine.RestartDaemonResponse{Pid: 8}, nil
}

func (w *world) ListAddresses(context.Context, *network.ListAddressesRequest) (*network.ListAddressesResponse, error) {
	return &network.ListAddressesResponse{Addresses: []*network.Address{{Link: "eth0", Address: "10.0.2.15/24", Scope: "global", Origin: "dhcp"}}}, nil
}

func (w *world) ListLinks(context.Context, *network.ListLinksRequest) (*network.ListLinksResponse, error) {
	return &network.ListLinksResponse{Links: []*network.Link{{Name: "lo", MtuBytes: 65536}, {Name: "eth0", MtuBytes: 1400}}}, nil
}

func (w *world) ListResolvers(context.Context, *network.ListResolversRequest) (*network.ListResolversResponse, error) {
	return &network.ListResolversResponse{Addresses: []string{"10.0.2.3"}}, nil
}

func (w *world) GetRuntime(context.Context, *pods.GetRuntimeRequest) (*pods.Runtime, error) {
	if err := w.problem("podd"); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	if err := w.problem("containerd"); err != nil {
		return &pods.Runtime{Message: err.Error()}, nil
	}
	return &pods.Runtime{Serving: true}, nil
}

func (w *world) PrepareKubernetes(_ context.Context, r *trust.PrepareKubernetesRequest) (*trust.PrepareKubernetesResponse, error) {
	if r.Node != "edge1" || !slices.Equal(r.Addresses, []string{"10.0.2.15", render.LocalAddress}) || r.ServiceNetwork != "10.96.0.0/16" {
		return nil, status.Errorf(codes.InvalidArgument, "%v", r)
	}
	if err := os.MkdirAll(w.files.keys, 0o700); err != nil {
		return nil, err
	}
	return &trust.PrepareKubernetesResponse{}, os.WriteFile(w.files.key("kubernetes-ca.crt"), []byte(w.ca), 0o600)
}

// etcdOf is etcd's server of a world; GetStatus is one of kube's too.
type etcdOf struct{ *world }

func (w etcdOf) GetStatus(context.Context, *etcd.GetStatusRequest) (*etcd.Status, error) {
	if err := w.problem("etcdd"); err != nil {
		return &etcd.Status{Message: err.Error()}, nil
	}
	return &etcd.Status{Serving: true}, nil
}

// The cluster, as HTTP shows it.
func (w *world) check(_ context.Context, name partName) error { return w.problem(name) }

func (w *world) node(context.Context, string) (nodeIs, error) {
	if err := w.problem("kubelet"); err != nil {
		return nodeIs{gone: true, message: "the kubelet has not registered it yet"}, nil
	}
	return nodeIs{ready: true, labelled: w.labelled()}, nil
}

func (w *world) apply(_ context.Context, o render.Object) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.objects[o.Path] = true
	return "1", nil
}

func (w *world) version(_ context.Context, o render.Object) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.objects[o.Path] {
		return "", nil
	}
	return "1", nil
}

func (w *world) label(_ context.Context, _ string, pods netip.Prefix) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.label1 = pods.String() == "10.244.0.0/24"
	return nil
}
