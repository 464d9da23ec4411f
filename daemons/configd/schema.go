package main

import (
	"fmt"
	"net/netip"
	"strings"
)

// parse reads one file, whose name is for messages only. Its error is a *mistake.
func parse(file string, data []byte) (settings, error) {
	root, err := document(file, data)
	s := defaults()
	if err != nil || root == nil {
		return s, err
	}
	d := decoder{file: file}
	var section node // kubernetes, where it stands
	err = d.mapping(root, "", []key{
		{"hostname", d.text(&s.hostname, checkHostname)},
		{"network", d.network(&s)},
		{"time", d.time(&s)},
		{"kubernetes", d.kubernetes(&s, &section)},
		{"registries", d.registries(&s)},
	})
	if err == nil {
		err = d.apart(s, section)
	}
	if err == nil {
		err = d.hosts(s)
	}
	if err != nil {
		return defaults(), err
	}
	return s, nil
}

func (d *decoder) network(s *settings) reader {
	return func(n node, path string) error {
		return d.mapping(n, path, []key{
			{"interfaces", d.list(func(n node, path string) error {
				i, err := d.iface(n, path)
				if err != nil {
					return err
				}
				if at := conflict(s.interfaces, i); at != "" {
					return d.mistake(n, path, "%s", at)
				}
				s.interfaces = append(s.interfaces, i)
				return nil
			})},
			{"nameservers", d.list(func(n node, path string) error {
				var a netip.Addr
				if err := d.address(&a)(n, path); err != nil {
					return err
				}
				for _, other := range s.nameservers {
					if other == a {
						return d.mistake(n, path, "%s stands here twice: want each name server once", a)
					}
				}
				s.nameservers = append(s.nameservers, a)
				d.servers = append(d.servers, server1{a, n, path})
				return nil
			})},
		})
	}
}

func (d *decoder) time(s *settings) reader {
	return func(n node, path string) error {
		var servers []string
		err := d.mapping(n, path, []key{
			{"servers", d.list(func(n node, path string) error {
				var server string
				if err := d.text(&server, checkServer)(n, path); err != nil {
					return err
				}
				servers = append(servers, server)
				if a, err := netip.ParseAddr(server); err == nil {
					d.servers = append(d.servers, server1{a, n, path})
				}
				return nil
			})},
		})
		if err == nil && len(servers) > 0 {
			s.timeServers, s.ownServers = servers, true
		}
		return err
	}
}

func (d *decoder) iface(n node, path string) (iface, error) {
	var i iface
	var hasDHCP bool
	err := d.mapping(n, path, []key{
		{"name", d.text(&i.name, checkLinkName)},
		{"dhcp", func(n node, path string) error {
			hasDHCP = true
			return d.boolean(&i.dhcp)(n, path)
		}},
		{"addresses", d.list(func(n node, path string) error {
			var p netip.Prefix
			if err := d.prefix(&p)(n, path); err != nil {
				return err
			}
			i.addresses = append(i.addresses, p)
			return nil
		})},
		{"gateway", d.address(&i.gateway)},
		{"mtu", d.mtu(&i.mtu)},
	})
	if err != nil {
		return i, err
	}
	if wrong := i.wrong(hasDHCP); wrong != "" {
		return i, d.mistake(n, path, "%s", wrong)
	}
	return i, nil
}

// wrong says what cannot work in one interface, and what would be right.
func (i iface) wrong(hasDHCP bool) string {
	switch {
	case i.name == "":
		return `no name: want the kernel's name of the link, such as "name: eth0"`
	case i.dhcp && len(i.addresses) > 0:
		return "both dhcp and addresses: want one of them"
	case i.dhcp && i.gateway.IsValid():
		return "both dhcp and gateway: want no gateway (DHCP brings it), or addresses in place of dhcp"
	case !hasDHCP && len(i.addresses) == 0:
		return `neither dhcp nor addresses: want one of them, or "dhcp: false" for a link without address`
	case i.gateway.IsValid() && !i.reaches(i.gateway):
		return fmt.Sprintf("gateway %s is in no network of addresses: want one that the link reaches directly, or an address with the prefix length /%d", i.gateway, i.gateway.BitLen())
	case i.noHost(i.gateway) != "":
		return fmt.Sprintf("gateway %s is %s: want the router's address", i.gateway, i.noHost(i.gateway))
	}
	for n, p := range i.addresses {
		if p.Addr() == i.gateway {
			return fmt.Sprintf("gateway %s is this machine's own address: want the router's", i.gateway)
		}
		for _, other := range i.addresses[:n] {
			if other.Addr() == p.Addr() {
				return fmt.Sprintf("address %s stands here twice: want each once", p.Addr())
			}
		}
	}
	return ""
}

// reaches says that the link reaches a gateway directly: it is in the network of an
// address; or there is an address without a network, as providers give them, and then
// every gateway is on the link; or it is link-local.
func (i iface) reaches(gateway netip.Addr) bool {
	for _, p := range i.addresses {
		alone := p.IsSingleIP() && p.Addr().Is4() == gateway.Is4()
		if p.Contains(gateway) || alone || gateway.Is6() && gateway.IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}

// noHost says what of the link's networks an address is that no machine can have; empty
// if it can be a machine's.
func (i iface) noHost(a netip.Addr) string {
	for _, p := range i.addresses {
		switch {
		case !a.Is4() || !p.Addr().Is4() || p.Bits() > 30:
		case a == p.Masked().Addr():
			return "the address of the network " + p.Masked().String()
		case a == broadcast(p):
			return "the broadcast address of the network " + p.Masked().String()
		}
	}
	return ""
}

// hosts wants addresses of servers that a machine can have.
func (d *decoder) hosts(s settings) error {
	for _, server := range d.servers {
		for _, i := range s.interfaces {
			if what := i.noHost(server.address); what != "" {
				return d.mistake(server.at, server.path, "%s is %s, which is %s's: want the address of a server", server.address, what, i.name)
			}
		}
	}
	return nil
}

// conflict says what of i contradicts the interfaces before it.
func conflict(before []iface, i iface) string {
	for _, b := range before {
		if b.name == i.name {
			return fmt.Sprintf("%s stands here twice: want one entry for each link", i.name)
		}
		for _, p := range i.addresses {
			for _, q := range b.addresses {
				if p.Addr() == q.Addr() {
					return fmt.Sprintf("address %s is %s's too: want each address on one link", p.Addr(), b.name)
				}
			}
		}
	}
	return ""
}

// checkHostname wants what the kernel can hold and Kubernetes takes as a node's name.
func checkHostname(s string) string {
	const want = "want labels of a-z, 0-9 and inner hyphens, joined by dots, 63 characters at most"
	if len(s) > 63 {
		return want
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label, "") || strings.ToLower(label) != label {
			return want
		}
	}
	if first, _, _ := strings.Cut(s, "."); first == "localhost" || strings.HasSuffix(s, ".localhost") {
		return "want a name that is not localhost, which is every machine's name for itself"
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return "want a name, not an address"
	}
	return ""
}

// checkServer wants an IP address or a DNS name.
func checkServer(s string) string {
	const want = "want a host name or an IP address"
	if a, err := netip.ParseAddr(s); err == nil {
		if a.IsUnspecified() || a.IsMulticast() {
			return want
		}
		return ""
	}
	if len(s) > 253 {
		return want
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if !isLabel(label, "_") {
			return want
		}
	}
	return ""
}

func isLabel(s, more string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !(c >= '0' && c <= '9') && c != '-' && !strings.ContainsRune(more, c) {
			return false
		}
	}
	return true
}

// checkLinkName wants what the kernel's dev_valid_name takes, in ASCII.
func checkLinkName(s string) string {
	const want = "want the kernel's name of a link: 1 to 15 characters, no space, slash or colon"
	if s == "" || len(s) > 15 || s == "." || s == ".." {
		return want
	}
	for _, c := range s {
		if c <= ' ' || c > '~' || c == '/' || c == ':' {
			return want
		}
	}
	switch {
	case s == "lo":
		return "want a network card's link: lo is the machine's own, for calls to itself"
	case s == "cni0", strings.HasPrefix(s, "veth"):
		return "want a network card's link: " + s + " is one of the pods'"
	}
	return ""
}
