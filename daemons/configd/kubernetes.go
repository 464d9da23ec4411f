package main

import (
	"fmt"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/config/extraargs"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// kubernetes is this machine's part in a cluster.
type kubernetes struct {
	cluster        string
	podNetwork     netip.Prefix
	serviceNetwork netip.Prefix
	role           string
	extraArgs      map[string]map[string]string // component, then flag
}

// network is one of the cluster's two networks: what a key may say.
type network struct {
	key      string
	standard netip.Prefix
	shortest int // the widest one
	why      string
}

var (
	// A node gets a /24, and kube-controller-manager counts 65536 nodes at most.
	pods = network{"podNetwork", netip.MustParsePrefix("10.244.0.0/16"), 8, "each node gets a /24 of it"}
	// kube-apiserver keeps a bitmap of the addresses: /12 is its limit.
	services = network{"serviceNetwork", netip.MustParsePrefix("10.96.0.0/16"), 12, "each Service gets an address of it"}
)

// longest is the narrowest that either network may be.
const longest = 24

var controlPlane = words.Of(config.NodeRole_NODE_ROLE_CONTROL_PLANE)

// kubernetes reads the section. What it says is compared with the rest of the
// file by apart, since the keys of a file have no order.
func (d *decoder) kubernetes(s *settings, at *node) reader {
	return func(n node, path string) error {
		if n.ShortTag() == "!!null" && n.Kind == yaml.ScalarNode {
			return d.mistake(n, path, "no value: want {} for a cluster with the defaults, or the key left out for none")
		}
		k := &kubernetes{cluster: "dactyl", podNetwork: pods.standard, serviceNetwork: services.standard, role: controlPlane}
		err := d.mapping(n, path, []key{
			{"cluster", d.text(&k.cluster, checkCluster)},
			{pods.key, d.network4(&k.podNetwork, pods)},
			{services.key, d.network4(&k.serviceNetwork, services)},
			{"role", d.text(&k.role, checkRole)},
			{"extraArgs", d.extraArgs(k)},
		})
		s.kubernetes, *at = k, n
		return err
	}
}

func (d *decoder) network4(into *netip.Prefix, w network) reader {
	return func(n node, path string) error {
		if err := d.kind(n, path, yaml.ScalarNode, "!!str", "a network with its prefix length"); err != nil {
			return err
		}
		s := n.Value
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil || !isHost(p.Addr()) || p.Addr().IsLinkLocalUnicast():
			return d.mistake(n, path, "%q: want a network of the cluster's own, such as %s", s, w.standard)
		case p.Addr().Is6():
			return d.mistake(n, path, "%s is an IPv6 network: want an IPv4 one, such as %s", p, w.standard)
		case p.Bits() < w.shortest || p.Bits() > longest:
			return d.mistake(n, path, "%s: want a prefix length from /%d to /%d (%s)", p, w.shortest, longest, w.why)
		case p.Masked() != p:
			return d.mistake(n, path, "%s is an address in a network: want the network, %s", p, p.Masked())
		}
		*into = p
		return nil
	}
}

func (d *decoder) extraArgs(k *kubernetes) reader {
	return func(n node, path string) error {
		k.extraArgs = map[string]map[string]string{}
		var known []key
		for _, name := range extraargs.Components() {
			known = append(known, key{name, func(n node, path string) error {
				flags, err := d.flags(name, n, path)
				if len(flags) > 0 {
					k.extraArgs[name] = flags
				}
				return err
			}})
		}
		return d.mapping(n, path, known)
	}
}

// flags reads one component's flags. Which there may be, and with which values, is
// extraargs' to know.
func (d *decoder) flags(component string, n node, path string) (map[string]string, error) {
	if err := d.kind(n, path, yaml.MappingNode, "!!map", "flags with values"); err != nil {
		return nil, err
	}
	flags := map[string]string{}
	names := map[string]node{}
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := join(path, name.Value)
		if err := d.kind(name, at, yaml.ScalarNode, "!!str", "a flag's name"); err != nil {
			return nil, err
		}
		if want := checkFlag(name.Value); want != "" {
			return nil, d.mistake(name, at, "%q: %s", name.Value, want)
		}
		if problem := extraargs.Name(component, name.Value); problem != "" {
			return nil, d.mistake(name, at, "%s", problem)
		}
		if first, twice := names[name.Value]; twice {
			return nil, d.mistake(name, at, "stands on line %d already: want it once", first.Line)
		}
		names[name.Value] = name
		if err := d.flag(value, at); err != nil {
			return nil, err
		}
		if problem := extraargs.Value(component, name.Value, value.Value); problem != "" {
			return nil, d.mistake(value, at, "%s", problem)
		}
		flags[name.Value] = value.Value
	}
	if name, problem := extraargs.Together(component, flags); problem != "" {
		return nil, d.mistake(names[name], join(path, name), "%s", problem)
	}
	return flags, nil
}

// flag wants a value that a command line can carry: it is handed on as it is
// written, so true and 4 need no quotes.
func (d *decoder) flag(n node, path string) error {
	const want = "one value: text, a number or a truth value"
	tag := n.ShortTag()
	if tag == "!!timestamp" {
		return d.mistake(n, path, "the date %q (in quotes it would be text): want %s", n.Value, want)
	}
	if err := d.kind(n, path, yaml.ScalarNode, tag, want); err != nil {
		return err
	}
	for _, c := range n.Value {
		if c < ' ' || c == 0x7f {
			return d.mistake(n, path, "%q: want a value on one line", n.Value)
		}
	}
	return nil
}

// apart wants the cluster's networks apart from each other and from the networks
// that the machine is in, so that an address means one place.
func (d *decoder) apart(s settings, at node) error {
	k := s.kubernetes
	if k == nil {
		return nil
	}
	if k.podNetwork.Overlaps(k.serviceNetwork) {
		return d.mistake(at, "kubernetes", "podNetwork %s and serviceNetwork %s overlap: want two networks without a common address", k.podNetwork, k.serviceNetwork)
	}
	for _, own := range []struct {
		key string
		net netip.Prefix
	}{{pods.key, k.podNetwork}, {services.key, k.serviceNetwork}} {
		for _, i := range s.interfaces {
			for _, p := range i.addresses {
				if own.net.Overlaps(p) {
					return d.mistake(at, "kubernetes", "%s %s overlaps %s of %s: want a network that nothing else uses", own.key, own.net, p, i.name)
				}
			}
		}
		for _, a := range s.nameservers {
			if own.net.Contains(a) {
				return d.mistake(at, "kubernetes", "%s %s contains the name server %s: want a network that nothing else uses", own.key, own.net, a)
			}
		}
	}
	return nil
}

// checkCluster wants a DNS label: it stands in names of contexts and certificates.
func checkCluster(s string) string {
	if !isLabel(s, "") || strings.ToLower(s) != s {
		return "want a-z, 0-9 and inner hyphens, 63 characters at most"
	}
	return ""
}

func checkRole(s string) string {
	switch s {
	case controlPlane:
		return ""
	case "worker":
		return fmt.Sprintf("want %s: joining as a worker comes with clusters of several machines", controlPlane)
	}
	return "want " + controlPlane
}

// checkFlag wants a flag's long name, as the components' --help shows it.
func checkFlag(s string) string {
	const want = "want a flag's name without its hyphens, such as v or feature-gates"
	if s == "" || len(s) > 100 || s[0] == '-' || s[len(s)-1] == '-' {
		return want
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
			return want
		}
	}
	return ""
}
