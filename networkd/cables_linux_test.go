package main

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/config"
)

// secondAddress is of the machine's second cable, in the same network as the first.
const secondAddress = "10.77.0.3"

// sysctls has rp_filter and arp_ignore as the image has them.
func (n *node) sysctls() {
	n.Helper()
	for _, s := range []string{"all/rp_filter=0", "default/rp_filter=1", "eth0/rp_filter=1", "cni0/rp_filter=1", "veth0/rp_filter=1", "all/arp_ignore=1"} {
		name, value, _ := strings.Cut(s, "=")
		n.run("sh", "-c", "echo "+value+" > /proc/sys/net/ipv4/conf/"+name)
	}
}

// TestRealTwoCablesInOneNetwork: the machine answers on the first link what arrives on the
// second. It is reached by both addresses all the same.
func TestRealTwoCablesInOneNetwork(t *testing.T) {
	n := newNode(t)
	n.sysctls()
	n.inServer("ip", "addr", "del", "10.77.0.1/24", "dev", "srv")
	n.inServer("ip", "link", "add", "lan", "type", "bridge")
	n.inServer("ip", "addr", "add", "10.77.0.1/24", "dev", "lan")
	n.inServer("ip", "link", "set", "srv", "master", "lan")
	n.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "srv1", "netns", n.server)
	n.inServer("ip", "link", "set", "srv1", "master", "lan")
	for _, name := range []string{"lan", "srv1"} {
		n.inServer("ip", "link", "set", name, "up")
	}
	n.run("ip", "addr", "add", secondAddress+"/24", "dev", "eth1")
	n.run("ip", "link", "set", "eth1", "up")
	n.serve(n.own(), ":8080", "machine")
	n.answers("by the first cable", n.server, machineAddress+":8080", "machine")
	n.silent("by the second cable, without networkd", n.server, secondAddress+":8080")

	n.networkd(&config.Network{
		Interfaces: []*config.Interface{
			{Name: "eth0", Addresses: []string{machineAddress + "/24"}}, {Name: "eth1", Addresses: []string{secondAddress + "/24"}},
		},
		Inside: withCluster.Inside,
	}).eventually("uplinks that take both", func() bool { return n.reads("eth0/rp_filter") == "2" && n.reads("eth1/rp_filter") == "2" })
	n.answers("by the first cable", n.server, machineAddress+":8080", "machine")
	n.answers("by the second cable", n.server, secondAddress+":8080", "machine")
	for _, name := range []string{"cni0", "veth0"} {
		if got := n.reads(name + "/rp_filter"); got != "1" {
			t.Errorf("rp_filter of %s is %s, want 1", name, got)
		}
	}
}

func (c *cable) reads(conf string) string {
	c.Helper()
	text, err := exec.Command("cat", "/proc/sys/net/ipv4/conf/"+conf).Output()
	if err != nil {
		c.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// TestRealNobodyPassesForAnother: a pod sends with the address of a neighbour, and a
// neighbour with that of a pod.
func TestRealNobodyPassesForAnother(t *testing.T) {
	n := newNode(t)
	n.sysctls()
	n.run("sh", "-c", "echo 2 > /proc/sys/net/ipv4/conf/eth0/rp_filter")
	n.inServer("ip", "addr", "add", "10.244.0.77/32", "dev", "srv")
	n.inPod("ip", "addr", "add", "10.77.0.9/32", "dev", "eth0")
	var received net.PacketConn
	if err := n.within(n.own(), func() (err error) { received, err = net.ListenPacket("udp4", ":8080"); return }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { received.Close() })
	// first sends from source, then from own, by the same link, and returns which arrives first.
	first := func(pid, source, own, to string) string {
		t.Helper()
		for _, from := range []string{source, own} {
			if err := n.within(pid, func() error {
				c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(to), Port: 8080})
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte("hello"))
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		arrived := ""
		for last := ""; last != own; {
			received.SetReadDeadline(time.Now().Add(deadline))
			_, from, err := received.ReadFrom(make([]byte, 64))
			if err != nil {
				t.Fatal(err)
			}
			last, _, _ = net.SplitHostPort(from.String())
			if arrived == "" {
				arrived = last
			}
		}
		return arrived
	}
	if got := first(n.server, "10.244.0.77", "10.77.0.1", machineAddress); got != "10.244.0.77" {
		t.Errorf("without networkd a neighbour's packet from %s arrives first, want the one with a pod's address", got)
	}
	n.protect().eventually("an uplink that takes both", func() bool { return n.reads("eth0/rp_filter") == "2" })
	if got := first(n.server, "10.244.0.77", "10.77.0.1", machineAddress); got != "10.77.0.1" {
		t.Errorf("a neighbour passes for the pod %s", got)
	}
	if got := first(n.pod, "10.77.0.9", podAddress, bridgeAddress); got != podAddress {
		t.Errorf("a pod passes for the neighbour %s", got)
	}
}
