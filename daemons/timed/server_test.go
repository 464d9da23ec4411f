package main

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/network"
	timeapi "github.com/dactyl-os/dactyl/ipc/time"
)

func TestTheClockIsSteppedThenSlewed(t *testing.T) {
	ntp := serveNTP(t, time.Hour)
	m := newMachine(t, fakeConfig{servers: []string{"127.0.0.1"}}, fakeNetwork{}, ntp, "53")
	m.round()
	if !near(m.clock.stepped, time.Hour) || m.clock.slewed != 0 {
		t.Errorf("stepped by %v, slewed by %v", m.clock.stepped, m.clock.slewed)
	}
	m.round()
	if !near(m.clock.stepped, time.Hour) || m.clock.slewed.Abs() > stepFrom {
		t.Errorf("stepped by %v, slewed by %v", m.clock.stepped, m.clock.slewed)
	}
	got := m.get()
	if !got.Synchronized || got.Server != "127.0.0.1" || got.Error != "" || got.LastSyncUnixNs == 0 {
		t.Errorf("%v", got)
	}
	if off := time.Until(time.Unix(0, got.TimeUnixNs)); !near(off, time.Hour) {
		t.Errorf("the machine's time is off by %v", off)
	}
}

// The clock is never set to before the build, whatever all servers say; one whose answer is
// later is still believed.
func TestNoTimeBeforeTheBuild(t *testing.T) {
	behind := serveNTP(t, -48*time.Hour)
	m := newMachine(t, fakeConfig{servers: []string{"127.0.0.1"}}, fakeNetwork{}, behind, "53")
	m.server.built = time.Now().Add(-24 * time.Hour)
	m.round()
	if got := m.get(); m.clock.stepped != 0 || m.clock.slewed != 0 || got.Synchronized || !strings.Contains(got.Error, "before this system was built") {
		t.Errorf("stepped by %v, slewed by %v: %v", m.clock.stepped, m.clock.slewed, got)
	}
	m = newMachine(t, fakeConfig{servers: []string{"127.0.0.1"}}, fakeNetwork{}, serveNTP(t, -48*time.Hour), "53")
	m.server.built = time.Now().Add(-72 * time.Hour)
	m.round()
	if !near(m.clock.stepped, -48*time.Hour) || !m.get().Synchronized {
		t.Errorf("stepped by %v: %v", m.clock.stepped, m.get())
	}
}

func TestNamesAreAskedOfTheMachinesNameServers(t *testing.T) {
	ntp, dns := serveNTP(t, 0), serveDNS(t, "clock.example.org.", [4]byte{127, 0, 0, 1})
	m := newMachine(t, fakeConfig{servers: []string{"clock.example.org"}}, fakeNetwork{resolvers: []string{"127.0.0.1"}}, ntp, dns)
	m.round()
	if got := m.get(); !got.Synchronized || got.Server != "127.0.0.1" {
		t.Errorf("%v", got)
	}
}

// TestDeadNameServers: the one that answers is found within the round, wherever in the
// list it is, and is the first to be asked in the next.
func TestDeadNameServers(t *testing.T) {
	ntp := serveNTP(t, 0)
	dns := serveDNS(t, "clock.example.org.", [4]byte{127, 0, 0, 1})
	silent := map[string]*atomic.Int32{}
	for _, dead := range []string{"127.0.0.2", "127.0.0.3"} {
		asked := &atomic.Int32{}
		silent[dead] = asked
		listenOn(t, dead+":"+dns, func([]byte) []byte { asked.Add(1); return nil })
	}
	for _, resolvers := range [][]string{{"127.0.0.2", "127.0.0.1"}, {"127.0.0.1", "127.0.0.2"}, {"127.0.0.2", "127.0.0.3", "127.0.0.1"}} {
		m := newMachine(t, fakeConfig{servers: []string{"clock.example.org"}}, fakeNetwork{resolvers: resolvers}, ntp, dns)
		m.round()
		if got := m.get(); !got.Synchronized || got.Server != "127.0.0.1" {
			t.Errorf("name servers %v: %v", resolvers, got)
		}
		before := silent["127.0.0.2"].Load() + silent["127.0.0.3"].Load()
		m.round()
		if after := silent["127.0.0.2"].Load() + silent["127.0.0.3"].Load(); after != before {
			t.Errorf("name servers %v: a dead one is asked in the second round", resolvers)
		}
	}
	m := newMachine(t, fakeConfig{servers: []string{"clock.example.org"}}, fakeNetwork{resolvers: []string{"127.0.0.2", "127.0.0.3"}}, ntp, dns)
	m.round()
	if got := m.get().Error; got != "resolve clock.example.org: name server 127.0.0.3: no answer within 2s" {
		t.Errorf("error %q: want it to say that no server answered in time", got)
	}
}

// TestSiteServers: DHCP's time servers come after the file's and before the default.
func TestSiteServers(t *testing.T) {
	port := serveNTP(t, 0) // on 127.0.0.1
	for name, c := range map[string]struct {
		config fakeConfig
		site   []string
		want   string
	}{
		"DHCP's":                   {fakeConfig{servers: []string{"127.0.0.9"}, standard: true}, []string{"127.0.0.1"}, "127.0.0.1"},
		"the file's":               {fakeConfig{servers: []string{"127.0.0.1"}}, []string{"127.0.0.9"}, "127.0.0.1"},
		"the default, DHCP's dead": {fakeConfig{servers: []string{"127.0.0.1"}, standard: true}, []string{"127.0.0.9"}, "127.0.0.1"},
		"the default":              {fakeConfig{servers: []string{"127.0.0.1"}, standard: true}, nil, "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, c.config, fakeNetwork{timeServers: c.site}, port, "53")
			m.round()
			if got := m.get(); !got.Synchronized || got.Server != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}

// TestAServerThatIsUnsureOfItself: a site's only server has a root dispersion of 10 s.
func TestAServerThatIsUnsureOfItself(t *testing.T) {
	m := newMachine(t, fakeConfig{servers: []string{"127.0.0.1"}}, fakeNetwork{}, serveUnsureNTP(t, 10), "53")
	m.round()
	got := m.get()
	if !got.Synchronized || got.Error != "" || !strings.Contains(got.Note, "127.0.0.1 says that it may be wrong by 10") {
		t.Errorf("%v", got)
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	dns := serveDNS(t, "clock.example.org.", [4]byte{127, 0, 0, 1})
	for name, c := range map[string]struct {
		config  fakeConfig
		network fakeNetwork
		want    string
	}{
		"configd":     {fakeConfig{}, fakeNetwork{}, "ask for the time servers"},
		"name server": {fakeConfig{servers: []string{"clock.example.org"}}, fakeNetwork{}, "resolve clock.example.org: no name server is known yet"},
		"name":        {fakeConfig{servers: []string{"typo.example.org"}}, fakeNetwork{resolvers: []string{"127.0.0.1"}}, "resolve typo.example.org: no such host"},
		"time server": {fakeConfig{servers: []string{"127.0.0.1"}}, fakeNetwork{}, "ask 127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, c.config, c.network, silentPort(t), dns)
			m.round()
			got := m.get()
			if got.Synchronized || !strings.HasPrefix(got.Error, c.want) || strings.Contains(got.Error, "\n") || got.TimeUnixNs == 0 {
				t.Errorf("error %q, want %q…", got.Error, c.want)
			}
		})
	}
}

// TestKeepEndsWithItsContext is what SIGTERM needs, whatever timed waits for.
func TestKeepEndsWithItsContext(t *testing.T) {
	m := newMachine(t, fakeConfig{}, fakeNetwork{}, "123", "53")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.server.keep(ctx); err != nil {
		t.Error(err)
	}
}

// machine is timed with its neighbours.
type machine struct {
	*testing.T
	server *server
	clock  *fakeClock
	client timeapi.Client
}

func newMachine(t *testing.T, c fakeConfig, n fakeNetwork, port, dnsPort string) machine {
	may := map[string][]string{config.Service: {"GetTime"}, network.Service: {"ListResolvers", "ListTimeServers"}, timeapi.Service: {"GetTime"}}
	neighbours := ipctest.Pair(t, may, func(r ipc.Registrar) {
		config.Register(r, c)
		network.Register(r, n)
	})
	w := &world{config: config.NewClient(neighbours), network: network.NewClient(neighbours), port: port, dnsPort: dnsPort}
	clock := &fakeClock{}
	s := newServer(w, clock, slog.New(slog.DiscardHandler))
	conn := ipctest.Pair(t, may, func(r ipc.Registrar) { timeapi.Register(r, s) })
	return machine{t, s, clock, timeapi.NewClient(conn)}
}

func (m machine) round() {
	m.Helper()
	if _, err := m.server.keep1(m.Context()); err != nil {
		m.Fatal(err)
	}
}

func (m machine) get() *timeapi.GetTimeResponse {
	m.Helper()
	got, err := m.client.GetTime(m.Context(), &timeapi.GetTimeRequest{})
	if err != nil {
		m.Fatal(err)
	}
	return got
}

// fakeClock counts what is asked of the kernel. It is off by what it was stepped;
// the time servers here answer by the real one.
type fakeClock struct{ stepped, slewed time.Duration }

func (c *fakeClock) now() time.Time { return time.Now().Add(c.stepped) }

func (c *fakeClock) step(by time.Duration) error {
	c.stepped += by
	return nil
}

func (c *fakeClock) slew(by, _ time.Duration) error {
	c.slewed += by
	return nil
}

type fakeConfig struct {
	config.Server
	servers  []string // nil: configd does not answer
	standard bool
}

func (c fakeConfig) GetTime(context.Context, *config.GetTimeRequest) (*config.Time, error) {
	if c.servers == nil {
		return nil, status.Error(codes.Unavailable, "configd is not running")
	}
	return &config.Time{Servers: c.servers, Standard: c.standard}, nil
}

type fakeNetwork struct {
	network.Server
	resolvers   []string
	timeServers []string
}

func (n fakeNetwork) ListTimeServers(context.Context, *network.ListTimeServersRequest) (*network.ListTimeServersResponse, error) {
	return &network.ListTimeServersResponse{Addresses: n.timeServers}, nil
}

func (n fakeNetwork) ListResolvers(context.Context, *network.ListResolversRequest) (*network.ListResolversResponse, error) {
	return &network.ListResolversResponse{Addresses: n.resolvers}, nil
}

func near(got, want time.Duration) bool { return (got - want).Abs() < time.Second }

// listen returns a UDP socket on loopback that answers what answer makes of each
// request (nil: silence), and its port.
func listen(t *testing.T, answer func([]byte) []byte) string {
	return listenOn(t, "127.0.0.1:0", answer)
}

func listenOn(t *testing.T, address string, answer func([]byte) []byte) string {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		request := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(request)
			if err != nil {
				return
			}
			if b := answer(request[:n]); b != nil {
				c.WriteTo(b, from)
			}
		}
	}()
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	return port
}

// silentPort is one where nobody listens and, while the test runs, nobody can: a
// socket that hears only one peer holds it, so whoever else asks is refused.
func silentPort(t *testing.T) string {
	c, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	return port
}

// serveNTP answers as a stratum 1 server whose clock is ahead the first time, as
// the machine's would be behind before it is stepped, and right from then on.
func serveNTP(t *testing.T, ahead time.Duration) (port string) {
	return listen(t, func(request []byte) []byte {
		now := time.Now().Add(ahead)
		ahead = 0
		return answerNTP(request, now, 0)
	})
}

// serveUnsureNTP answers with a root dispersion in seconds.
func serveUnsureNTP(t *testing.T, dispersion byte) (port string) {
	return listen(t, func(request []byte) []byte { return answerNTP(request, time.Now(), dispersion) })
}

func answerNTP(request []byte, now time.Time, dispersion byte) []byte {
	b := make([]byte, 48)
	b[0] = 4<<3 | 4 // version 4, server
	b[1] = 1        // stratum
	b[3] = 0xec     // precision 2⁻²⁰ s
	copy(b[12:], "TEST")
	putTime(b[16:], now.Add(-time.Second)) // reference
	copy(b[24:32], request[40:48])         // origin: the client's transmit time
	putTime(b[32:], now)                   // received
	putTime(b[40:], now)                   // sent
	b[9] = dispersion                      // 16 bits of seconds, 16 of fractions
	return b
}

func putTime(b []byte, t time.Time) {
	const since1900 = 2208988800
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+since1900))
	binary.BigEndian.PutUint32(b[4:], uint32(uint64(t.Nanosecond())<<32/1e9))
}

// serveDNS knows one name with one IPv4 address.
func serveDNS(t *testing.T, name string, address [4]byte) (port string) {
	return listen(t, func(request []byte) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(request); err != nil {
			return nil
		}
		q := m.Questions[0]
		m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}
		m.Additionals = nil
		switch {
		case q.Name.String() != name:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: address},
			}}
		}
		b, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return b
	})
}
