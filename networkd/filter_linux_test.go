package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/ipc/config"
)

// These tests send real packets past the packet filter. The machine has a pod behind
// cni0 and a neighbour at the other end of eth0's cable; the neighbour has routes of its
// own to whatever is inside the machine. Other tables do what kube-proxy and CNI's
// portmap do. Each test looks first without networkd: there the attack succeeds.

const (
	machineAddress = "10.77.0.2"
	podAddress     = "10.244.0.5"
	bridgeAddress  = "10.244.0.1"

	// dropped is how long to wait for an answer that should not come.
	dropped = time.Second
)

var withCluster = &config.Network{
	Interfaces: []*config.Interface{{Name: "eth0", Addresses: []string{machineAddress + "/24"}}},
	Inside:     []string{"10.244.0.0/16", "10.96.0.0/16"},
}

// node is a machine with a pod.
type node struct {
	*cable
	pod string // pid of a process in the pod's namespace
}

func newNode(t *testing.T) *node {
	c := newCable(t)
	n := &node{c, c.namespace()}
	c.run("ip", "link", "set", "lo", "up")
	c.run("ip", "addr", "add", "192.0.0.8/32", "dev", "lo")
	c.run("ip", "addr", "add", machineAddress+"/24", "dev", "eth0")
	c.run("ip", "link", "set", "eth0", "up")
	c.run("ip", "route", "add", "default", "via", "10.77.0.1")
	c.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	c.run("ip", "link", "add", "cni0", "type", "bridge")
	c.run("ip", "addr", "add", bridgeAddress+"/24", "dev", "cni0")
	c.run("ip", "link", "set", "cni0", "up")
	c.run("ip", "link", "add", "veth0", "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", n.pod)
	c.run("ip", "link", "set", "veth0", "up")
	n.inPod("ip", "addr", "add", podAddress+"/24", "dev", "eth0")
	n.inPod("ip", "link", "set", "eth0", "up")
	n.inPod("ip", "route", "add", "default", "via", bridgeAddress)
	for _, inside := range []string{"10.244.0.0/16", "10.96.0.0/16", "192.0.0.8"} {
		c.inServer("ip", "route", "add", inside, "via", machineAddress)
	}
	return n
}

func (n *node) inPod(args ...string) {
	n.Helper()
	n.run("nsenter", append([]string{"-t", n.pod, "-n"}, args...)...)
}

func (n *node) nft(rules string) {
	n.Helper()
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if out, err := nft.CombinedOutput(); err != nil {
		n.Fatalf("nft: %v: %s", err, out)
	}
}

// within runs f in the network namespace of a process.
func (n *node) within(pid string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		ns, err := os.Open("/proc/" + pid + "/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// own is the test's own namespace, the machine's.
func (n *node) own() string { return fmt.Sprintf("%d/task/%d", os.Getpid(), unix.Gettid()) }

// serve answers each connection to address, seen from a process's namespace, with a word.
func (n *node) serve(pid, address, word string) {
	n.Helper()
	var l net.Listener
	if err := n.within(pid, func() (err error) { l, err = net.Listen("tcp4", address); return }); err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, word)
			c.Close()
		}
	}()
}

// ask connects to address from a process's namespace, and returns the word that it is
// answered with. An error is refused or dropped.
func (n *node) ask(pid, address string, patience time.Duration) (word string, err error) {
	err = n.within(pid, func() error {
		c, err := net.DialTimeout("tcp4", address, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(c)
		word = string(b)
		return err
	})
	return word, err
}

// answers wants word from address.
func (n *node) answers(why, pid, address, word string) {
	n.Helper()
	if got, err := n.ask(pid, address, deadline); err != nil || got != word {
		n.Errorf("%s: %s answers %q, %v: want %q", why, address, got, err, word)
	}
}

// silent wants no answer from address.
func (n *node) silent(why, pid, address string) {
	n.Helper()
	got, err := n.ask(pid, address, dropped)
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		n.Errorf("%s: %s answers %q, %v: want nothing", why, address, got, err)
	}
}

// protect starts networkd and waits for its rules.
func (n *node) protect() *testMachine {
	n.Helper()
	m := n.networkd(withCluster)
	m.eventually("the packet filter", func() bool { return strings.Contains(n.ruleset(), "chain api") })
	return m
}

func (c *cable) ruleset() string {
	c.Helper()
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		c.Fatalf("nft list ruleset: %v: %s", err, out)
	}
	return string(out)
}

// TestRealFilterKeepsPodsFromTheAPI: 512 connections are all that the gateway takes,
// and a pod can have all addresses of its network.
func TestRealFilterKeepsPodsFromTheAPI(t *testing.T) {
	n := newNode(t)
	n.serve(n.own(), ":7400", "gateway")
	n.serve(n.own(), ":6443", "apiserver")
	n.serve(n.own(), ":10250", "kubelet")
	n.nft(kubeProxy)
	n.answers("without a filter", n.pod, machineAddress+":7400", "gateway")

	n.protect()
	for _, address := range []string{machineAddress, bridgeAddress, "192.0.0.8"} {
		if got, err := n.ask(n.pod, address+":7400", deadline); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("pod to %s:7400: %q, %v: want it refused", address, got, err)
		}
	}
	n.answers("neighbour", n.server, machineAddress+":7400", "gateway")
	n.answers("the machine itself", n.own(), machineAddress+":7400", "gateway")
	n.answers("pod to the API server", n.pod, machineAddress+":6443", "apiserver")
	n.answers("pod to the API server's Service", n.pod, "10.96.0.1:443", "apiserver")
	n.answers("the machine to the API server's Service", n.own(), "10.96.0.1:443", "apiserver")
	n.answers("pod to the kubelet", n.pod, machineAddress+":10250", "kubelet")
}

// kubeProxy does what kube-proxy does for kubernetes.default, for a Service of a pod
// with a NodePort.
const kubeProxy = `
table ip kube-proxy {
	chain services {
		ip daddr 10.96.0.1 tcp dport 443 dnat to 10.77.0.2:6443
		ip daddr 10.96.0.20 tcp dport 80 dnat to 10.244.0.5:80
		fib daddr type local tcp dport { 30080 } dnat to 10.244.0.5:80
	}
	chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
	chain nat-output { type nat hook output priority -100; jump services; }
	chain nat-postrouting { type nat hook postrouting priority 100; ip saddr 10.244.0.0/24 ip daddr != 10.244.0.0/24 masquerade; }
}
`

// hostPorts does what portmap does for a pod that wants the machine's ports.
const hostPorts = `
table ip cni_hostport {
	chain hostports { tcp dport { 8080, 7400, 6443, 10250, 2379 } dnat to 10.244.0.5:80; }
	chain prerouting { type nat hook prerouting priority -100; fib daddr type local jump hostports; }
	chain output { type nat hook output priority -100; fib daddr type local jump hostports; }
}
`

// TestRealFilterKeepsTheMachinesPorts: no hostPort and no NodePort takes a port that the
// machine itself answers on.
func TestRealFilterKeepsTheMachinesPorts(t *testing.T) {
	for _, c := range []struct{ name, rules, free string }{{"hostPort", hostPorts, "8080"}, {"NodePort", strings.Replace(kubeProxy, "30080", "30080, 7400, 6443, 10250", 1), "30080"}} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.serve(n.pod, ":80", "pod")
			for _, port := range []string{"7400", "6443", "10250"} {
				n.serve(n.own(), ":"+port, "machine")
			}
			n.serve(n.own(), "127.0.0.1:2379", "etcd")
			n.nft(c.rules)
			n.answers("without a filter", n.server, machineAddress+":7400", "pod")

			n.protect()
			for _, port := range []string{"7400", "6443", "10250"} {
				n.answers("neighbour", n.server, machineAddress+":"+port, "machine")
				n.answers("the machine itself", n.own(), machineAddress+":"+port, "machine")
				n.answers("the machine itself", n.own(), "127.0.0.1:"+port, "machine")
			}
			for _, port := range []string{"6443", "10250"} {
				n.answers("pod", n.pod, machineAddress+":"+port, "machine")
			}
			n.answers("the API server to its database", n.own(), "127.0.0.1:2379", "etcd")
			n.answers("a port that is free", n.server, machineAddress+":"+c.free, "pod")
		})
	}
}

// fullTable does to packets what a full table of connections does: one that is tracked
// and belongs to no connection yet is dropped.
const fullTable = `
table inet full {
	chain in { type filter hook prerouting priority -190; ct state new drop; }
	chain out { type filter hook output priority -190; ct state new drop; }
}
`

// TestRealFilterAPIWithAFullConnectionTable: a pod can fill the kernel's table of
// connections; the owner must reach the machine all the same.
func TestRealFilterAPIWithAFullConnectionTable(t *testing.T) {
	n := newNode(t)
	n.serve(n.own(), ":7400", "gateway")
	n.serve(n.own(), ":6443", "apiserver")
	n.serve(n.own(), ":10250", "kubelet")
	n.serve(n.own(), ":8080", "other")
	n.serve(n.own(), "127.0.0.1:2379", "etcd")
	n.nft(fullTable)
	n.silent("without a filter", n.server, machineAddress+":7400")

	n.protect()
	n.answers("the owner", n.server, machineAddress+":7400", "gateway")
	n.answers("kubectl", n.server, machineAddress+":6443", "apiserver")
	n.answers("kubed", n.own(), "127.0.0.1:6443", "apiserver")
	n.answers("the API server to its database", n.own(), "127.0.0.1:2379", "etcd")
	n.answers("the API server to the kubelet", n.own(), machineAddress+":10250", "kubelet")
	n.silent("another port", n.server, machineAddress+":8080")
}

// TestRealFilterKeepsNeighboursOut: a host on the link can route what it likes to the
// machine. It must not reach pods, Services or the machine's name server so.
func TestRealFilterKeepsNeighboursOut(t *testing.T) {
	n := newNode(t)
	n.serve(n.pod, ":80", "pod")
	n.serve(n.own(), "192.0.0.8:5353", "coredns")
	n.serve(n.own(), ":6443", "apiserver")
	n.serve(n.server, "10.77.0.1:80", "neighbour")
	n.nft(kubeProxy)
	inside := []struct{ what, address, word string }{
		{"a pod", podAddress + ":80", "pod"},
		{"a Service", "10.96.0.20:80", "pod"},
		{"the name server", "192.0.0.8:5353", "coredns"},
		{"the bridge's address", bridgeAddress + ":6443", "apiserver"},
	}
	for _, i := range inside {
		n.answers("without a filter, "+i.what, n.server, i.address, i.word)
	}

	n.protect()
	for _, i := range inside {
		n.silent(i.what, n.server, i.address)
	}
	n.answers("a NodePort", n.server, machineAddress+":30080", "pod")
	n.answers("a pod to its name server", n.pod, "192.0.0.8:5353", "coredns")
	n.answers("a pod to a Service", n.pod, "10.96.0.1:443", "apiserver")
	n.answers("a pod to the network", n.pod, "10.77.0.1:80", "neighbour")
	n.nft("flush chain ip kube-proxy nat-postrouting")
	n.answers("a pod to the network, under its own address", n.pod, "10.77.0.1:80", "neighbour")
}

// TestRealFilterForwardsNothingForNeighbours: between two uplinks the machine is no
// router.
func TestRealFilterForwardsNothingForNeighbours(t *testing.T) {
	n := newNode(t)
	far := n.namespace()
	n.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far", "netns", far)
	n.run("nsenter", "-t", far, "-n", "ip", "addr", "add", "10.78.0.1/24", "dev", "far")
	n.run("nsenter", "-t", far, "-n", "ip", "link", "set", "far", "up")
	n.run("nsenter", "-t", far, "-n", "ip", "route", "add", "default", "via", "10.78.0.2")
	n.run("ip", "addr", "add", "10.78.0.2/24", "dev", "eth1")
	n.run("ip", "link", "set", "eth1", "up")
	n.inServer("ip", "route", "add", "10.78.0.0/24", "via", machineAddress)
	n.serve(far, "10.78.0.1:80", "far")
	n.answers("without a filter", n.server, "10.78.0.1:80", "far")

	n.protect()
	n.silent("from one uplink to another", n.server, "10.78.0.1:80")
	n.answers("the machine itself", n.own(), "10.78.0.1:80", "far")
	n.answers("a pod", n.pod, "10.78.0.1:80", "far")
}

// TestRealFilterCannotBeTakenAway: nothing but networkd changes the table, and it
// stays in force while one networkd follows another.
func TestRealFilterCannotBeTakenAway(t *testing.T) {
	n := newNode(t)
	n.serve(n.own(), ":7400", "gateway")
	refused := func(when string) {
		t.Helper()
		if got, err := n.ask(n.pod, machineAddress+":7400", deadline); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: pod to the API: %q, %v: want it refused", when, got, err)
		}
	}
	first := n.protect()
	refused("at first")
	if out, err := exec.Command("nft", "delete", "table", "inet", "dactyl").CombinedOutput(); err == nil {
		t.Errorf("nft delete table inet dactyl: %s: want it refused", out)
	}
	n.run("nft", "flush", "ruleset")
	refused("after nft flush ruleset")

	second := n.networkd(withCluster) // beside the first
	refused("with two processes")
	first.stop()
	n.closeFirst()
	refused("after the first has ended")
	second.eventually("the second owns the table", func() bool {
		return exec.Command("nft", "delete", "table", "inet", "dactyl").Run() != nil && strings.Contains(n.ruleset(), "owner")
	})
	second.eventually("the second's rules", func() bool { return strings.Contains(n.ruleset(), "chain api") })
	refused("with the second")
}

// TestRealFilterFollowsLinks: a link that appears is an uplink before it is up, and what
// an older version left in the table goes.
func TestRealFilterFollowsLinks(t *testing.T) {
	n := newNode(t)
	if err := n.open().setFilter(filter{}); err != nil {
		t.Fatal(err)
	}
	n.closeFirst()
	n.nft(`
add set inet dactyl old { type ipv4_addr; }
add chain inet dactyl old { type filter hook input priority 0; }
add rule inet dactyl old ip saddr @old drop`)
	m := n.networkd(&config.Network{Interfaces: []*config.Interface{{Name: "eth0"}, {Name: "usb0"}}})
	m.eventually("the packet filter", func() bool { return strings.Contains(n.ruleset(), "chain api") })
	if strings.Contains(n.ruleset(), "old") {
		t.Errorf("still there: %s", n.ruleset())
	}
	n.run("ip", "link", "add", "usb0", "type", "veth", "peer", "name", "plug")
	m.eventually("another uplink", func() bool { return strings.Contains(n.ruleset(), `"usb0"`) })
	n.run("ip", "link", "del", "usb0")
	m.eventually("one uplink", func() bool { return strings.Contains(n.ruleset(), `elements = { "eth0" }`) })
}

// namespace makes a network namespace, and returns the pid of a process in it.
func (c *cable) namespace() string {
	c.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	holder := exec.CommandContext(ctx, "unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep 600")
	out, err := holder.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { cancel(); holder.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is in its namespace
		c.Fatal(err)
	}
	return fmt.Sprint(holder.Process.Pid)
}
