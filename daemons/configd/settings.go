package main

import "net/netip"

// settings is what a file says, checked. The zero value of a field means that the
// file leaves it to the daemon concerned.
type settings struct {
	hostname    string
	interfaces  []iface
	nameservers []netip.Addr
	timeServers []string    // never empty
	ownServers  bool        // the file names the time servers
	kubernetes  *kubernetes // nil: no part in a cluster
	registries  registries
}

// iface is one entry of network.interfaces.
type iface struct {
	name      string
	dhcp      bool
	addresses []netip.Prefix // with the host's part
	gateway   netip.Addr     // may be invalid: none
	mtu       int            // 0: DHCP's, else the kernel's
}

// defaultTimeServers are asked when the file names none: a public service that
// answers from nearby everywhere, takes part in no leap smearing and asks nothing of
// the products that use it.
var defaultTimeServers = []string{"time.cloudflare.com"}

func defaults() settings {
	return settings{timeServers: defaultTimeServers}
}
