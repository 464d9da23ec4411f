package packages

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two pods on the bridge that kubed configures, made by the CNI plugins of the image. One
// claims the other's addresses and the gateway's; neither the other nor the machine
// believes it. Where ports are not isolated it works, so the attack is a real one.
func TestPodCannotClaimAddresses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes network namespaces")
	}
	program := built(t, "cni")
	for _, isolated := range []bool{false, true} {
		t.Run(fmt.Sprintf("isolated=%v", isolated), func(t *testing.T) {
			n := newPodNetwork(t, program, isolated)
			attacker, victim := n.addPod("attacker"), n.addPod("victim")
			n.connect(attacker.netns, victim)
			n.connect(victim.netns, attacker)
			n.connect(n.machine, victim)

			// The gateway's and the victim's addresses, as the attacker's.
			before := n.neighbour(victim.netns, "eth0", n.gateway)
			for range 20 {
				n.claim(attacker, n.gateway, attacker.mac, victim.mac)
				n.claim(attacker, victim.ip, attacker.mac, n.bridge)
				time.Sleep(100 * time.Millisecond) // a neighbour that was confirmed a second ago is not replaced
			}
			// The victim's hardware address, as one of the attacker's port.
			n.claim(attacker, attacker.ip, victim.mac, n.bridge)

			poisoned := n.neighbour(victim.netns, "eth0", n.gateway) != before || n.neighbour(n.machine, "cni0", victim.ip) != victim.mac.String()
			if poisoned == isolated {
				t.Errorf("the attacker's addresses are believed: %v; the victim has the gateway at %s (before: %s), the machine has the victim at %s, not %s",
					poisoned, n.neighbour(victim.netns, "eth0", n.gateway), before, n.neighbour(n.machine, "cni0", victim.ip), victim.mac)
			}
			if !isolated {
				return
			}
			if fdb := n.tool(n.machine, "bridge", "fdb", "show", "br", "cni0"); strings.Contains(fdb, victim.mac.String()+" dev "+attacker.port) {
				t.Errorf("frames for the victim go to the attacker:\n%s", fdb)
			}
			n.connect(n.machine, victim)
			n.connect(attacker.netns, victim)
			n.connect(victim.netns, attacker)

			// The address of a pod that has gone is free for another one.
			n.plugin("DEL", victim.name, victim.netns)
			if after := n.tool(n.machine, "ip", "neigh", "show", victim.ip.String(), "dev", "cni0"); strings.Contains(after, victim.mac.String()) {
				t.Errorf("the pod has gone, its address is still bound: %s", after)
			}
		})
	}
}

// podNetwork is a machine's network namespace with the bridge in it.
type podNetwork struct {
	t       *testing.T
	machine string // its namespace
	path    string // of the plugins
	config  []byte
	gateway netip.Addr
	bridge  net.HardwareAddr
}

type pod struct {
	name, netns string
	port        string // its end on the bridge
	ip          netip.Addr
	mac         net.HardwareAddr
}

func newPodNetwork(t *testing.T, program string, isolated bool) *podNetwork {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"bridge", "host-local"} {
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	config := renderedNetwork(t)
	if config["portIsolation"] != true {
		t.Fatalf("kubed's network has portIsolation %v", config["portIsolation"])
	}
	config["portIsolation"] = isolated
	config["ipam"].(map[string]any)["dataDir"] = t.TempDir()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	n := &podNetwork{t: t, machine: newNetworkNamespace(t), path: dir, config: text}
	n.tool(n.machine, "ip", "link", "set", "lo", "up")
	return n
}

// renderedNetwork is the bridge of the network that kubed configures.
func renderedNetwork(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("../../kubed/internal/render/testdata/containerd.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), ".conflist, read again when it changes --\n")
	var network struct {
		CNIVersion string
		Name       string
		Plugins    []map[string]any
	}
	if err := json.NewDecoder(strings.NewReader(list)).Decode(&network); err != nil || len(network.Plugins) == 0 {
		t.Fatalf("the network that kubed renders: %v", err)
	}
	bridge := maps.Clone(network.Plugins[0])
	bridge["cniVersion"], bridge["name"] = network.CNIVersion, network.Name
	return bridge
}

// addPod makes a pod's network namespace and has the plugin connect it.
func (n *podNetwork) addPod(name string) pod {
	n.t.Helper()
	p := pod{name: name, netns: newNetworkNamespace(n.t)}
	var made struct {
		Interfaces []struct{ Name, Mac, Sandbox string }
		IPs        []struct{ Address, Gateway string }
	}
	if out := n.plugin("ADD", name, p.netns); json.Unmarshal(out, &made) != nil || len(made.Interfaces) != 3 || len(made.IPs) != 1 {
		n.t.Fatalf("the plugin made %s", out)
	}
	p.port = made.Interfaces[1].Name
	p.ip = netip.MustParsePrefix(made.IPs[0].Address).Addr()
	n.gateway = netip.MustParseAddr(made.IPs[0].Gateway)
	for mac, to := range map[string]*net.HardwareAddr{made.Interfaces[0].Mac: &n.bridge, made.Interfaces[2].Mac: &p.mac} {
		var err error
		if *to, err = net.ParseMAC(mac); err != nil {
			n.t.Fatal(err)
		}
	}
	return p
}

func (n *podNetwork) plugin(command, name, netns string) []byte {
	n.t.Helper()
	cmd := exec.Command("nsenter", "--net="+n.machine, filepath.Join(n.path, "bridge"))
	cmd.Stdin = strings.NewReader(string(n.config))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+name, "CNI_NETNS="+netns, "CNI_IFNAME=eth0", "CNI_PATH="+n.path)
	out, err := cmd.Output()
	if err != nil {
		n.t.Fatalf("%s %s: %v\n%s", command, name, err, out)
	}
	return out
}

func (n *podNetwork) tool(netns string, args ...string) string {
	n.t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=" + netns}, args...)...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// neighbour is the hardware address that a namespace has for an IP address.
func (n *podNetwork) neighbour(netns, link string, ip netip.Addr) string {
	n.t.Helper()
	_, mac, _ := strings.Cut(n.tool(netns, "ip", "neigh", "show", ip.String(), "dev", link), "lladdr ")
	mac, _, _ = strings.Cut(mac, " ")
	return mac
}

// connect opens a TCP connection from a namespace to a pod.
func (n *podNetwork) connect(from string, to pod) {
	n.t.Helper()
	var listener net.Listener
	n.inside(to.netns, func() (err error) {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(to.ip, 0).String())
		return err
	})
	defer listener.Close()
	n.inside(from, func() error {
		c, err := net.DialTimeout("tcp4", listener.Addr().String(), 20*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// claim sends an ARP answer from a pod's port to one station: this IP address has this
// hardware address, from which the frame comes.
func (n *podNetwork) claim(p pod, ip netip.Addr, mac, to net.HardwareAddr) {
	n.t.Helper()
	frame := append(append([]byte{}, to...), mac...)
	frame = binary.BigEndian.AppendUint16(frame, unix.ETH_P_ARP)
	frame = append(frame, 0, 1, 8, 0, 6, 4, 0, 2) // Ethernet, IPv4, an answer
	frame = append(append(frame, mac...), ip.AsSlice()...)
	frame = append(append(frame, to...), ip.AsSlice()...)
	n.inside(p.netns, func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index, Halen: 6})
	})
}

// inside runs f in a network namespace.
func (n *podNetwork) inside(netns string, f func() error) {
	n.t.Helper()
	if err := within(netns, f); err != nil {
		n.t.Fatal(err)
	}
}

// within takes the thread back to its own namespace: if it ended instead, the processes
// that it started would be killed with it (newNetworkNamespace).
func within(netns string, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	there, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(there)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	return errors.Join(err, unix.Setns(own, unix.CLONE_NEWNET))
}
