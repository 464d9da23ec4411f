package main

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

// pin is what a node keeps: its name for as long as its data lives, its address for
// as long as it has it.
type pin struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	Boot    string     `json:"boot"` // in which it had that address
}

// facts are what others say of the machine.
type facts struct {
	hostname  string
	boot      string
	addresses []netip.Addr // that others reach it by, the best first
	resolvers []netip.Addr
	mtus      map[netip.Addr]int // of the links that have these addresses
}

const (
	// addressGrace is how long a machine that starts may take to get an address.
	addressGrace = 10 * time.Second
	// nameless is the name of a node whose machine has none, for want of a link that it
	// could be derived from.
	nameless = "dactyl"
)

var localAddress = netip.MustParseAddr(render.LocalAddress)

// choose says who the node is; what it lacks for that is named instead.
func choose(was pin, f facts, waited time.Duration) (is pin, lacks string) {
	is = pin{Name: was.Name, Boot: f.boot}
	if is.Name == "" {
		is.Name = nodeName(f.hostname)
	}
	if is.Name == "" && waited < addressGrace {
		return is, "name"
	}
	if is.Name == "" {
		is.Name = nameless
	}
	switch {
	case slices.Contains(f.addresses, was.Address):
		is.Address = was.Address
	case len(f.addresses) > 0:
		is.Address = f.addresses[0]
	case was.Address.IsValid() && was.Boot == f.boot:
		is.Address = was.Address // a cable that is out is no reason to start everything anew
	case waited < addressGrace:
		return is, "address"
	default:
		is.Address = localAddress
	}
	return is, ""
}

// nodeName makes a node's name of a machine's; the kernel's own for none is none.
func nodeName(hostname string) string {
	if hostname == "(none)" || hostname == "localhost" {
		return ""
	}
	return strings.ToLower(hostname)
}

// reached is by which addresses the node's servers are asked.
func reached(address netip.Addr, f facts) []netip.Addr {
	all := append([]netip.Addr{address}, f.addresses...)
	all = append(all, localAddress)
	slices.SortFunc(all[1:], netip.Addr.Compare)
	var out []netip.Addr
	for _, a := range all {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
