package render

import (
	"net/netip"
)

// Versions of what is in the same image as this program; a test compares them with
// the go.mod files that they are built from.
const (
	KubernetesVersion = "v1.36.3"
	ContainerdVersion = "v2.3.7"
	CoreDNSVersion    = "v1.14.7"
)

// Where others find this machine's parts.
const (
	APIPort = 6443

	// LocalAddress is on every machine's loopback link and is never anybody else's
	// (RFC 7600's dummy address; networkd sets it). Pods reach it, the network does
	// not: CoreDNS answers there. A machine without any network has it as the
	// node's address.
	LocalAddress = "192.0.0.8"

	clusterDomain = "cluster.local"
	dnsPort       = 5353 // 53 takes a capability
)

// Node is what the configuration of a node's components is made from.
type Node struct {
	Cluster        string // DNS label
	Name           string
	Address        netip.Addr
	PodNetwork     netip.Prefix
	ServiceNetwork netip.Prefix
	Resolvers      []netip.Addr
	MTU            int // of the link that has Address; 0: not known
	Registries     Registries
	ExtraArgs      map[string]map[string]string // component → flag without hyphens → value
}

// APIAddress is the first address of the service network, by which pods reach the API
// server: it takes that one by itself.
func (n Node) APIAddress() netip.Addr { return nth(n.ServiceNetwork, 1) }

// dnsAddress is the tenth, by which pods reach CoreDNS.
func (n Node) dnsAddress() netip.Addr { return nth(n.ServiceNetwork, 10) }

// PodRange is the part of the pod network that is this node's: the first, of 254 pods'
// addresses. The pods' network and the Node object both have it from here: the
// controller-manager would give another one to a node that is registered again.
func (n Node) PodRange() netip.Prefix {
	return netip.PrefixFrom(n.PodNetwork.Masked().Addr(), max(24, n.PodNetwork.Bits()))
}

func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}
