package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/network"
)

// These tests have a real kernel, and dnsmasq as the DHCP server, in network
// namespaces of their own: eth0 is the machine's link, srv the other end of its cable.

var eth0ByDHCP = &config.Network{Interfaces: []*config.Interface{{Name: "eth0", Dhcp: true}}}

// TestRealDHCP follows a machine from its first lease through a renewal, a
// replacement of networkd and a pulled cable; a TCP connection made at the beginning
// must live to the end.
func TestRealDHCP(t *testing.T) {
	c := newCable(t)
	log := c.dnsmasq("--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,1h", "--dhcp-option=option:dns-server,10.77.0.53",
		"--dhcp-option=option:ntp-server,10.77.0.123", "--dhcp-option=option:mtu,1400")
	m := newMachine(t, impatient{c.open()}, &fakePeers{config: eth0ByDHCP})
	m.eventually("a lease", func() bool { return c.has(m, "dhcp") && len(m.resolvers()) == 1 })
	if got := m.resolvers(); got[0] != "10.77.0.53" {
		t.Errorf("resolvers %v", got)
	}
	if got, err := m.client.ListTimeServers(t.Context(), &network.ListTimeServersRequest{}); err != nil || !slices.Equal(got.Addresses, []string{"10.77.0.123"}) {
		t.Errorf("time servers %v, %v", got, err)
	}
	m.eventually("DHCP's MTU", func() bool { return c.mtu(m) == 1400 })
	echo := c.connect()
	echo("a lease")

	acks := func() int { return strings.Count(log.String(), "DHCPACK(") }
	m.eventually("a renewal", func() bool { return acks() >= 2 })
	echo("a renewal")

	c.run("ip", "link", "set", "eth0", "promisc", "on") // a change that is none of ours
	m.stop()
	if !c.has(m, "dhcp") {
		t.Error("networkd took the address with it")
	}
	before := acks()
	m = c.networkd(eth0ByDHCP)
	m.eventually("the lease confirmed", func() bool { return acks() > before && len(m.resolvers()) == 1 })
	echo("a replacement")

	c.inServer("ip", "link", "set", "srv", "down")
	m.eventually("the route withdrawn", func() bool { return c.routes(m, "dhcp") == 0 })
	before = acks()
	c.inServer("ip", "link", "set", "srv", "up")
	m.eventually("the lease confirmed", func() bool { return acks() > before && c.has(m, "dhcp") && c.routes(m, "dhcp") == 1 })
	echo("a pulled cable")
}

// impatient renews leases after a second; dnsmasq gives none so short.
type impatient struct{ *linux }

func (i impatient) receive(ctx context.Context) (linkIndex, answer, error) {
	on, a, err := i.linux.receive(ctx)
	a.renew = time.Second
	return on, a, err
}

// TestRealServerOfAnotherNetwork plugs a machine that has a lease into a network
// whose server refuses it.
func TestRealServerOfAnotherNetwork(t *testing.T) {
	c := newCable(t)
	c.run("ip", "addr", "add", "10.99.0.5/24", "dev", "eth0", "valid_lft", "3600", "preferred_lft", "3600")
	k := c.open()
	seen, err := k.observe(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range seen.addresses {
		if a.prefix.String() == "10.99.0.5/24" { // mark it as a process before us would have
			a.origin = fromDHCP
			if err := k.setAddress(a, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.dnsmasq("--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,1h", "--dhcp-authoritative")
	m := c.networkd(eth0ByDHCP)
	m.eventually("another address", func() bool {
		all := c.addresses(m, "dhcp")
		return len(all) == 1 && strings.HasPrefix(all[0], "10.77.0.")
	})
}

// TestRealKernel sets what a configuration can say, has a second process find
// nothing to do about it, and takes it back.
func TestRealKernel(t *testing.T) {
	c := newCable(t)
	full := &config.Network{Interfaces: []*config.Interface{{
		Name: "eth0", Addresses: []string{"192.168.7.10/24", "203.0.113.5/32", "fd00:7::10/64"}, Gateway: "172.31.1.1",
	}}}
	m := c.networkd(full)
	m.eventually("addresses and route", func() bool { return len(c.addresses(m, "static")) == 3 && c.routes(m, "static") == 1 })
	m.stop()

	k := c.open()
	seen, err := k.observe(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	eth0 := seen.links[len(seen.links)-1]
	if eth0.maxMTU == 0 || eth0.usb || seen.uptime == 0 {
		t.Errorf("link %+v after %v", eth0, seen.uptime)
	}
	if err := k.setGroup(eth0, atBoot); err != nil {
		t.Fatal(err)
	}
	if seen, err = k.observe(time.Now()); err != nil || seen.links[len(seen.links)-1].group != atBoot {
		t.Errorf("the mark is not there: %+v, %v", seen.links, err)
	}
	e := newEngine(func() uint32 { return 0 })
	todo := append(e.observe(time.Now(), seen), e.configure(time.Now(), settingsFrom(full, nil))...)
	todo = slices.DeleteFunc(todo, func(a action) bool { _, ok := a.(setFilter); return ok }) // the first has taken its own along
	if len(todo) > 0 {
		t.Errorf("a second process finds something to do: %v", todo)
	}

	m = c.networkd(full)
	c.run("ip", "addr", "del", "203.0.113.5/32", "dev", "eth0")
	m.eventually("the deleted address", func() bool { return len(c.addresses(m, "static")) == 3 && c.routes(m, "static") == 1 })
	m.stop()

	m = c.networkd(&config.Network{Interfaces: []*config.Interface{{Name: "eth0", Addresses: []string{"fd00:7::11/64"}, Gateway: "fd00:7::1"}}})
	m.eventually("the new configuration", func() bool {
		all := c.addresses(m, "static")
		return len(all) == 1 && all[0] == "fd00:7::11/64" && c.routes(m, "static") == 1
	})
	links, err := m.client.ListLinks(t.Context(), &network.ListLinksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links.Links {
		if l.Name == "eth0" && (l.Kind != "veth" || l.Driver != "veth" || !l.Up || !l.Carrier || l.MtuBytes != 1500 || l.TxBytes == 0) {
			t.Errorf("%v", l)
		}
		if l.Name == "lo" && (l.Kind != loopback || !l.Up) {
			t.Errorf("%v", l)
		}
	}
}

// cable is a machine's network namespace, in which the test's thread is, joined by
// a veth pair to that of a server.
type cable struct {
	*testing.T
	server string // pid of a process in the server's namespace
	opened []*linux
}

// closeFirst closes the kernel that was opened first, as the end of its process does.
func (c *cable) closeFirst() {
	c.opened[0].close()
	c.opened = c.opened[1:]
}

func (k *linux) close() {
	k.route.Close()
	k.events.Close()
	k.raw.Close()
	k.udp.Close()
	unix.Close(k.ioctls)
	k.filter.conn.CloseLasting()
}

func newCable(t *testing.T) *cable {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread() // for ever: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	c := &cable{T: t}
	c.server = c.namespace()
	c.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "srv", "netns", c.server)
	c.inServer("ip", "addr", "add", "10.77.0.1/24", "dev", "srv")
	c.inServer("ip", "link", "set", "srv", "up")
	return c
}

func (c *cable) run(name string, args ...string) {
	c.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		c.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func (c *cable) inServer(args ...string) {
	c.Helper()
	c.run("nsenter", append([]string{"-t", c.server, "-n"}, args...)...)
}

// dnsmasq serves DHCP on srv, and returns its log.
func (c *cable) dnsmasq(args ...string) *lockedBuffer {
	c.Helper()
	all := append([]string{
		"-t", c.server, "-n", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--log-dhcp", "--port=0",
		"--interface=srv", "--bind-interfaces", "--no-ping", "--user=root", "--group=root", "--pid-file=",
		"--dhcp-leasefile=" + filepath.Join(c.TempDir(), "leases"),
	}, args...)
	log := &lockedBuffer{}
	server := exec.Command("nsenter", all...)
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
		if c.Failed() {
			c.Log(log.String())
		}
	})
	return log
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open opens the kernel in the namespace of the test's thread. All of networkd's
// sockets are opened here, so it stays there whatever thread it runs on.
func (c *cable) open() *linux {
	c.Helper()
	k, err := openKernel()
	if err != nil {
		c.Fatal(err)
	}
	if c.opened == nil {
		c.Cleanup(func() {
			for _, k := range c.opened {
				k.close()
			}
		})
	}
	c.opened = append(c.opened, k)
	return k
}

func (c *cable) networkd(conf *config.Network) *testMachine {
	c.Helper()
	return newMachine(c.T, c.open(), &fakePeers{config: conf})
}

func (c *cable) addresses(m *testMachine, origin string) []string {
	c.Helper()
	var all []string
	for _, a := range m.addresses() {
		if a.Link == "eth0" && a.Origin == origin {
			all = append(all, a.Address)
		}
	}
	return all
}

func (c *cable) has(m *testMachine, origin string) bool { return len(c.addresses(m, origin)) > 0 }

func (c *cable) mtu(m *testMachine) int32 {
	c.Helper()
	links, err := m.client.ListLinks(c.Context(), &network.ListLinksRequest{})
	if err != nil {
		c.Fatal(err)
	}
	for _, l := range links.Links {
		if l.Name == "eth0" {
			return l.MtuBytes
		}
	}
	return 0
}

func (c *cable) routes(m *testMachine, origin string) int {
	c.Helper()
	n := 0
	for _, r := range m.routes() {
		if r.Link == "eth0" && r.Origin == origin && r.Destination == "default" {
			n++
		}
	}
	return n
}

// connect makes a TCP connection from the machine to an echo server at the other
// end, and returns a function that tries it.
func (c *cable) connect() func(after string) {
	c.Helper()
	listening := make(chan net.Listener, 1)
	go func() {
		runtime.LockOSThread() // for ever, as above
		defer close(listening)
		ns, err := os.Open("/proc/" + c.server + "/ns/net")
		if err != nil {
			c.Error(err)
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			c.Error(err)
			return
		}
		l, err := net.Listen("tcp", "10.77.0.1:7")
		if err != nil {
			c.Error(err)
			return
		}
		listening <- l
	}()
	l, ok := <-listening
	if !ok {
		c.FailNow()
	}
	c.Cleanup(func() { l.Close() })
	go func() {
		if peer, err := l.Accept(); err == nil {
			io.Copy(peer, peer)
			peer.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(c.Context(), deadline)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", "10.77.0.1:7")
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { conn.Close() })
	return func(after string) {
		c.Helper()
		conn.SetDeadline(time.Now().Add(deadline))
		got := make([]byte, len(after))
		if _, err := io.WriteString(conn, after); err != nil {
			c.Fatalf("after %s: %v", after, err)
		}
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != after {
			c.Fatalf("after %s: %q, %v", after, got, err)
		}
	}
}
