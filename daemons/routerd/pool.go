package main

import (
	"net"
	"net/netip"
	"slices"
)

const (
	// maxPending is how many connections may be in their TLS handshake: more than a
	// /24 network has addresses, so that one host that takes all of them still does not
	// displace another client.
	maxPending = 256
	// maxAnonymous is how many connections without a valid certificate there may be.
	maxAnonymous = 64
	// networkBits are the bits of an IPv6 address that one client usually has all addresses of.
	networkBits = 64
)

// pool holds connections of clients that have proven nothing yet. It is never closed to a
// newcomer: when it is full, the newcomer displaces another connection.
type pool struct {
	max       int
	conns     []*inbound // oldest first
	ofNetwork map[netip.Addr]int
	ofAddress map[netip.Addr]int
}

func newPool(max int) pool {
	return pool{max: max, ofNetwork: map[netip.Addr]int{}, ofAddress: map[netip.Addr]int{}}
}

// add adds c and returns the connection that has to be closed for it, if any.
func (p *pool) add(c *inbound) *inbound {
	p.conns = append(p.conns, c)
	p.ofNetwork[c.network]++
	p.ofAddress[c.address]++
	if len(p.conns) <= p.max {
		return nil
	}
	v := p.victim()
	p.remove(v)
	return v
}

// remove removes c, if it is in the pool.
func (p *pool) remove(c *inbound) {
	i := slices.Index(p.conns, c)
	if i < 0 {
		return
	}
	p.conns = slices.Delete(p.conns, i, i+1)
	if p.ofNetwork[c.network]--; p.ofNetwork[c.network] == 0 {
		delete(p.ofNetwork, c.network)
	}
	if p.ofAddress[c.address]--; p.ofAddress[c.address] == 0 {
		delete(p.ofAddress, c.address)
	}
}

// victim returns the oldest connection of the network, and there of the address, that
// has the most. A connection whose call a daemon is working on is left alone.
func (p *pool) victim() *inbound {
	newest := p.conns[len(p.conns)-1]
	v := newest
	for _, c := range p.conns[:len(p.conns)-1] {
		if c.busy == 0 && (v == newest || p.hasMore(c, v)) {
			v = c
		}
	}
	return v
}

func (p *pool) hasMore(c, than *inbound) bool {
	if a, b := p.ofNetwork[c.network], p.ofNetwork[than.network]; a != b {
		return a > b
	}
	return p.ofAddress[c.address] > p.ofAddress[than.address]
}

// clientOf returns the address of the client, and its network.
func clientOf(c net.Conn) (address, network netip.Addr) {
	t, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return
	}
	address = t.AddrPort().Addr().Unmap().WithZone("")
	network = address
	if address.Is6() {
		p, _ := address.Prefix(networkBits)
		network = p.Addr()
	}
	return address, network
}
