package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
)

// TestSealed runs the program itself with the uid, the capabilities and the system
// calls of its daemon.toml and no others, from the first question to a DHCP server to
// a cable that is plugged in again. A right that is missing there ends the process, and
// the test with it.
func TestSealed(t *testing.T) {
	c := newCable(t)
	log := c.dnsmasq("--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,1h")
	dir := open(t, filepath.Dir(t.TempDir()), "")
	sockets := open(t, dir, "ipc")
	p := &fakePeers{config: &config.Network{Hostname: "kitchen", Interfaces: eth0ByDHCP.Interfaces}}
	serve(t, filepath.Join(sockets, "config"), config.Service, "GetNetwork", func(r ipc.Registrar) { config.Register(r, fakeConfig{p: p}) })
	serve(t, filepath.Join(sockets, "machine"), machine.Service, "SetHostname", func(r ipc.Registrar) { machine.Register(r, fakeInit{p: p}) })

	client := ipc.NewPeer("network", launch(t, dir, sockets))
	t.Cleanup(client.Close)
	m := &testMachine{T: t, peers: p, client: network.NewClient(client)}
	m.eventually("a lease", func() bool { return c.has(m, "dhcp") && c.routes(m, "dhcp") == 1 })
	m.eventually("the host name", func() bool { return p.hostname() == "kitchen" })

	m.eventually("the packet filter", func() bool { return strings.Contains(c.ruleset(), "chain api") })
	c.inServer("ip", "link", "set", "srv", "down")
	m.eventually("the route withdrawn", func() bool { return c.routes(m, "dhcp") == 0 })
	before := strings.Count(log.String(), "DHCPACK(")
	c.inServer("ip", "link", "set", "srv", "up")
	m.eventually("the lease confirmed", func() bool { return strings.Count(log.String(), "DHCPACK(") > before && c.routes(m, "dhcp") == 1 })
	links, err := m.client.ListLinks(t.Context(), &network.ListLinksRequest{})
	if err != nil || !slices.ContainsFunc(links.Links, func(l *network.Link) bool { return l.Driver == "veth" }) {
		t.Error(links, err)
	}
}

// open makes a directory that other users may look into.
func open(t *testing.T, parent, name string) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve answers at path for one method of a service.
func serve(t *testing.T, path, service, method string, register func(ipc.Registrar)) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	s := ipc.NewServer(nil)
	register(s)
	caller := ipc.Caller{Name: "networkd", Methods: map[string][]string{service: {method}}}
	if err := s.Listen(l, caller, func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Drain(context.Background()) })
}

// manifest is what this test needs of daemon.toml.
type manifest struct {
	Name         string
	User         uint32
	Capabilities map[string]string
	Syscalls     map[string]string
}

func readManifest(t *testing.T) manifest {
	t.Helper()
	data, err := os.ReadFile("daemon.toml")
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := toml.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// spec is what PID 1 tells the daemon of itself.
func (m manifest) spec(t *testing.T) string {
	t.Helper()
	s := abi.Spec{Mode: abi.Test, Descriptors: []abi.Descriptor{{Kind: abi.IPCSocket, Name: "test", Service: "network"}}}
	s.Name, s.User = m.Name, m.User
	s.Callers = []abi.Caller{{Name: "test", Service: "network", Full: network.Service, Methods: []string{"ListAddresses", "ListLinks", "ListRoutes"}}}
	for set := range m.Syscalls {
		s.Syscalls = append(s.Syscalls, set)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// launch builds the program and starts it much as PID 1 does, in the namespace of
// the test's thread, and returns its socket once it is ready. It must end with 0.
func launch(t *testing.T, dir, sockets string) string {
	t.Helper()
	binary := filepath.Join(dir, "networkd")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	own := filepath.Join(dir, "network")
	l, err := net.Listen("unix", own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	socket, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	ready, notify, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m, log := readManifest(t), &lockedBuffer{}
	caps := "-all"
	for c := range m.Capabilities {
		caps += ",+" + strings.ToLower(c)
	}
	d := exec.Command("unshare", "--mount", "sh", "-c",
		`mount -t tmpfs none /run && mkdir /run/ipc && mount --bind "$0" /run/ipc &&
		exec setpriv --reuid 104 --regid 104 --clear-groups --no-new-privs --inh-caps "$1" --ambient-caps "$1" --bounding-set "$1" "$2"`,
		sockets, caps, binary)
	d.Env = []string{"PATH=" + os.Getenv("PATH"), abi.SpecEnv + "=" + m.spec(t)}
	d.ExtraFiles = []*os.File{notify, socket}
	d.Stderr = log
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	notify.Close()
	socket.Close()
	t.Cleanup(func() {
		d.Process.Signal(syscall.SIGTERM)
		if err := d.Wait(); err != nil {
			t.Errorf("end: %v: %s", err, log)
		}
		ready.Close()
	})
	if n, _ := ready.Read(make([]byte, 100)); n == 0 {
		t.Fatalf("not ready: %s", log)
	}
	return own
}
