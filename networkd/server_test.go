package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
)

const deadline = 10 * time.Second

func TestALinkGetsItsLease(t *testing.T) {
	k := newFakeKernel()
	m := newMachine(t, k, &fakePeers{config: &config.Network{}})
	m.eventually("the lease", func() bool { return len(m.addresses()) == 1 })
	got := m.addresses()[0]
	if got.Link != "eth0" || got.Address != "10.0.0.5/24" || got.Origin != "dhcp" || got.ValidS < 3500 {
		t.Errorf("%v", got)
	}
	m.eventually("the route", func() bool { return len(m.routes()) == 1 })
	if r := m.routes()[0]; r.Destination != "default" || r.Gateway != "10.0.0.1" || r.Source != "10.0.0.5" || r.Metric != 1002 {
		t.Errorf("%v", r)
	}
	if got := m.resolvers(); !slices.Equal(got, []string{"10.0.0.53"}) {
		t.Errorf("resolvers %v", got)
	}
	m.eventually("the host name", func() bool { return m.peers.hostname() == "dactyl-123456" })
}

func TestConfiguredAddressAndLinks(t *testing.T) {
	k := newFakeKernel()
	m := newMachine(t, k, &fakePeers{config: &config.Network{
		Hostname:    "kitchen",
		Interfaces:  []*config.Interface{{Name: "eth0", Addresses: []string{"192.168.7.10/24"}, Gateway: "192.168.7.1"}},
		Nameservers: []string{"9.9.9.9"},
	}})
	m.eventually("the address", func() bool { return len(m.addresses()) == 1 && len(m.routes()) == 1 })
	if a := m.addresses()[0]; a.Address != "192.168.7.10/24" || a.Origin != "static" || a.ValidS != 0 {
		t.Errorf("%v", a)
	}
	if got := m.resolvers(); !slices.Equal(got, []string{"9.9.9.9"}) {
		t.Errorf("resolvers %v", got)
	}
	m.eventually("the host name", func() bool { return m.peers.hostname() == "kitchen" })
	links, err := m.client.ListLinks(t.Context(), &network.ListLinksRequest{})
	if err != nil || len(links.Links) != 2 {
		t.Fatal(links, err)
	}
	if l := links.Links[1]; l.Name != "eth0" || l.Kind != "physical" || !l.Up || !l.Carrier || l.Mac != "52:54:00:12:34:56" || l.Driver != "fake" || l.MtuBytes != 1500 {
		t.Errorf("%v", l)
	}
}

func TestWhatSomebodyDeletesComesBack(t *testing.T) {
	k := newFakeKernel()
	m := newMachine(t, k, &fakePeers{config: &config.Network{Interfaces: []*config.Interface{{Name: "eth0", Addresses: []string{"192.168.7.10/24"}}}}})
	m.eventually("the address", func() bool { return len(m.addresses()) == 1 })
	k.change(func(s *snapshot) { s.addresses = nil })
	m.eventually("the address again", func() bool { return len(m.addresses()) == 1 })
}

func TestWhatTheKernelRefusesIsTriedAgain(t *testing.T) {
	k := newFakeKernel()
	k.refuse = 2 // the loopback link's and this one
	m := newMachine(t, k, &fakePeers{config: &config.Network{Interfaces: []*config.Interface{{Name: "eth0", Addresses: []string{"192.168.7.10/24"}}}}})
	m.eventually("the address", func() bool { return len(m.addresses()) == 1 })
}

func TestAHostNameThatPID1DoesNotTakeAtOnce(t *testing.T) {
	m := newMachine(t, newFakeKernel(), &fakePeers{config: &config.Network{Hostname: "kitchen"}, refuse: 1})
	m.eventually("the host name", func() bool { return m.peers.hostname() == "kitchen" })
}

func TestAKernelThatCannotBeReadIsInternal(t *testing.T) {
	k := newFakeKernel()
	m := newMachine(t, k, &fakePeers{config: &config.Network{}})
	m.stop()
	k.mu.Lock()
	k.broken = true
	k.mu.Unlock()
	if _, err := m.client.ListRoutes(t.Context(), &network.ListRoutesRequest{}); status.Code(err) != codes.Internal {
		t.Error(err)
	}
}

// testMachine is networkd between a kernel and its peers.
type testMachine struct {
	*testing.T
	peers  *fakePeers
	client network.Client
	stop   func()
}

func newMachine(t *testing.T, k kernel, p *fakePeers) *testMachine {
	may := map[string][]string{
		config.Service:  {"GetNetwork"},
		machine.Service: {"SetHostname"},
		network.Service: {"ListLinks", "ListAddresses", "ListRoutes", "ListResolvers", "ListTimeServers"},
	}
	conn := ipctest.Pair(t, may, func(r ipc.Registrar) {
		config.Register(r, fakeConfig{p: p})
		machine.Register(r, fakeInit{p: p})
	})
	s := newServer(k, peers{config.NewClient(conn), machine.NewClient(conn)}, slog.New(slog.DiscardHandler))
	own := ipctest.Pair(t, may, func(r ipc.Registrar) { network.Register(r, s) })
	m := &testMachine{T: t, peers: p, client: network.NewClient(own)}
	m.start(s)
	return m
}

// start runs what main hands to kit, until stop.
func (m *testMachine) start(s *server) {
	ctx, cancel := context.WithCancel(context.Background())
	var jobs sync.WaitGroup
	for _, job := range []func(context.Context) error{s.decide, s.watch, s.receive, s.follow, s.name} {
		jobs.Go(func() {
			if err := job(ctx); err != nil && ctx.Err() == nil {
				m.Error(err)
			}
		})
	}
	m.stop = func() { cancel(); jobs.Wait() }
	m.Cleanup(m.stop)
}

func (m *testMachine) eventually(what string, ok func() bool) {
	m.Helper()
	for end := time.Now().Add(deadline); !ok(); {
		if time.Now().After(end) {
			m.Fatalf("%s: not within %v", what, deadline)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// addresses are those of the cable's links.
func (m *testMachine) addresses() []*network.Address {
	m.Helper()
	got, err := m.client.ListAddresses(m.Context(), &network.ListAddressesRequest{})
	if err != nil {
		m.Fatal(err)
	}
	return slices.DeleteFunc(got.Addresses, func(a *network.Address) bool { return a.Link == "lo" })
}

func (m *testMachine) routes() []*network.Route {
	m.Helper()
	got, err := m.client.ListRoutes(m.Context(), &network.ListRoutesRequest{})
	if err != nil {
		m.Fatal(err)
	}
	return got.Routes
}

func (m *testMachine) resolvers() []string {
	m.Helper()
	got, err := m.client.ListResolvers(m.Context(), &network.ListResolversRequest{})
	if err != nil {
		m.Fatal(err)
	}
	return got.Addresses
}

// fakePeers are configd and PID 1.
type fakePeers struct {
	config *config.Network // nil: configd does not answer

	mu     sync.Mutex // guards what follows
	refuse int        // so many host names
	name   string
}

func (p *fakePeers) hostname() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.name
}

type fakeConfig struct {
	config.Server
	p *fakePeers
}

func (c fakeConfig) GetNetwork(context.Context, *config.GetNetworkRequest) (*config.Network, error) {
	if c.p.config == nil {
		return nil, status.Error(codes.Unavailable, "not there")
	}
	return c.p.config, nil
}

type fakeInit struct {
	machine.Server
	p *fakePeers
}

func (i fakeInit) SetHostname(_ context.Context, r *machine.SetHostnameRequest) (*machine.SetHostnameResponse, error) {
	i.p.mu.Lock()
	defer i.p.mu.Unlock()
	if i.p.refuse > 0 {
		i.p.refuse--
		return nil, status.Error(codes.Unavailable, "not yet")
	}
	i.p.name = r.Hostname
	return &machine.SetHostnameResponse{}, nil
}

// fakeKernel does as it is told; a DHCP server is on its network.
type fakeKernel struct {
	changes chan struct{}
	answers chan answer

	mu     sync.Mutex // guards what follows
	state  snapshot
	refuse int // so many addresses
	broken bool
	hears  bool
}

func newFakeKernel() *fakeKernel {
	k := &fakeKernel{changes: make(chan struct{}, 1), answers: make(chan answer, 10)}
	k.state.links = []link{
		{index: 1, name: "lo", kind: loopback},
		{index: 2, name: "eth0", kind: physical, carrier: true, mac: mac{0x52, 0x54, 0, 0x12, 0x34, 0x56}, mtu: 1500},
	}
	return k
}

// change changes the kernel from without, and has it say so.
func (k *fakeKernel) change(f func(*snapshot)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.state)
	select {
	case k.changes <- struct{}{}:
	default:
	}
}

func (k *fakeKernel) observe(time.Time) (snapshot, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken {
		return snapshot{}, errors.New("no memory")
	}
	return k.state.clone(), nil
}

func (k *fakeKernel) do(a action) error {
	k.change(func(s *snapshot) { s.obey(a) })
	return nil
}

func (k *fakeKernel) setUp(l link) error              { return k.do(setUp{l}) }
func (k *fakeKernel) deleteAddress(a address) error   { return k.do(deleteAddress{a}) }
func (k *fakeKernel) setRoute(r route) error          { return k.do(setRoute{r}) }
func (k *fakeKernel) deleteRoute(r route) error       { return k.do(deleteRoute{r}) }
func (k *fakeKernel) setGroup(l link, g uint32) error { return k.do(setGroup{l, g}) }
func (k *fakeKernel) setLoose(l link) error           { return k.do(setLoose{l}) }
func (k *fakeKernel) setMTU(l link, mtu int) error    { return k.do(setMTU{l, mtu}) }
func (k *fakeKernel) setFilter(f filter) error        { return k.do(setFilter{f}) }
func (k *fakeKernel) driver(linkName) string          { return "fake" }

func (k *fakeKernel) setAddress(a address, _ time.Time) error {
	k.mu.Lock()
	refuse := k.refuse > 0
	if refuse {
		k.refuse--
	}
	k.mu.Unlock()
	if refuse {
		return errors.New("no buffer space available")
	}
	return k.do(setAddress{a})
}

func (k *fakeKernel) changed(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-k.changes:
		return nil
	}
}

func (k *fakeKernel) listen(on bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hears = on
	return nil
}

// send is answered at once, if anybody listens.
func (k *fakeKernel) send(_ linkIndex, r request) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.hears {
		k.answers <- answer{
			kind: map[messageKind]messageKind{discover: offer, ask: ack}[r.kind], xid: r.xid, mac: r.mac,
			address: netip.MustParsePrefix("10.0.0.5/24"), server: netip.MustParseAddr("10.0.0.1"),
			hops:        []hop{{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.1")}},
			nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, lease: time.Hour,
		}
	}
	return nil
}

func (k *fakeKernel) receive(ctx context.Context) (linkIndex, answer, error) {
	select {
	case <-ctx.Done():
		return 0, answer{}, ctx.Err()
	case a := <-k.answers:
		return 2, a, nil
	}
}
