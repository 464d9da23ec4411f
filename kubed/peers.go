package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/etcd"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

// peers are whom kubed calls.
type peers struct {
	config  config.Client
	etcd    etcd.Client
	machine machine.Client
	network network.Client
	pods    pods.Client
	trust   trust.Client
}

// settings asks configd, which has checked what it says.
func (p peers) settings(ctx context.Context) (settings, error) {
	c, err := p.config.GetKubernetes(ctx, &config.GetKubernetesRequest{})
	if err != nil || !c.Configured {
		return settings{}, err
	}
	s := settings{configured: true, cluster: c.Cluster, extraArgs: map[string]map[string]string{}}
	var wrong, wrong2 error
	s.podNetwork, wrong = netip.ParsePrefix(c.PodNetwork)
	s.serviceNetwork, wrong2 = netip.ParsePrefix(c.ServiceNetwork)
	for component, flags := range c.ExtraArgs {
		s.extraArgs[component] = flags.Values
	}
	s.registries = registries(c.Registries)
	return s, errors.Join(wrong, wrong2)
}

func registries(c *config.Registries) render.Registries {
	r := render.Registries{Proxy: c.GetProxy(), ProxyExcept: c.GetProxyExcept()}
	for _, h := range c.GetHosts() {
		r.Hosts = append(r.Hosts, render.Registry{Name: h.Name, Mirrors: h.Mirrors, CA: h.Ca, HTTP: h.Http})
	}
	return r
}

// facts asks who the machine is.
func (p peers) facts(ctx context.Context) (f facts, err error) {
	v, err := p.machine.GetVersion(ctx, &machine.GetVersionRequest{})
	if err != nil {
		return f, fmt.Errorf("ask for the machine's name: %w", err)
	}
	a, err := p.network.ListAddresses(ctx, &network.ListAddressesRequest{})
	if err != nil {
		return f, fmt.Errorf("ask for addresses: %w", err)
	}
	l, err := p.network.ListLinks(ctx, &network.ListLinksRequest{})
	if err != nil {
		return f, fmt.Errorf("ask for links: %w", err)
	}
	r, err := p.network.ListResolvers(ctx, &network.ListResolversRequest{})
	if err != nil {
		return f, fmt.Errorf("ask for name servers: %w", err)
	}
	f = facts{hostname: v.Hostname, boot: v.BootId, addresses: usable(a.Addresses), mtus: mtus(a.Addresses, l.Links)}
	for _, text := range r.Addresses {
		if a, err := netip.ParseAddr(text); err == nil && !a.IsLoopback() {
			f.resolvers = append(f.resolvers, a)
		}
	}
	return f, nil
}

// usable are the addresses under which others reach the machine, in the order of its
// links: those of DHCP and the configuration. Services' addresses are IPv4, and a
// node's must be of the same kind.
func usable(all []*network.Address) []netip.Addr {
	var out []netip.Addr
	for _, a := range all {
		p, err := netip.ParsePrefix(a.Address)
		if err == nil && a.Scope == "global" && (a.Origin == "dhcp" || a.Origin == "static") && p.Addr().Is4() {
			out = append(out, p.Addr())
		}
	}
	return out
}

// mtus are the sizes of packets that links take, by the links' usable addresses.
func mtus(all []*network.Address, links []*network.Link) map[netip.Addr]int {
	out := map[netip.Addr]int{}
	for _, a := range all {
		for _, address := range usable([]*network.Address{a}) {
			for _, l := range links {
				if l.Name == a.Link {
					out[address] = int(l.MtuBytes)
				}
			}
		}
	}
	return out
}

func (p peers) prepare(ctx context.Context, w wish) error {
	r := &trust.PrepareKubernetesRequest{Node: w.node, ServiceNetwork: w.serviceNetwork.String()}
	for _, a := range w.addresses {
		r.Addresses = append(r.Addresses, a.String())
	}
	_, err := p.trust.PrepareKubernetes(ctx, r)
	return err
}

// listing is how much PID 1 is asked for.
type listing int

const (
	brief listing = iota // what it knows
	whole                // and what it has to read all over /proc for
)

// daemons are PID 1's view of all parts, by name.
func (p peers) daemons(ctx context.Context, how listing) (map[partName]*machine.Daemon, error) {
	r, err := p.machine.ListDaemons(ctx, &machine.ListDaemonsRequest{Brief: how == brief})
	if err != nil {
		return nil, err
	}
	all := map[partName]*machine.Daemon{}
	for _, d := range r.Daemons {
		if d.OnRequest {
			all[partName(d.Name)] = d
		}
	}
	return all, nil
}

// problems that are answers.
var (
	errNotServing = errors.New("it does not serve yet")
)

// etcdStatus returns why the database cannot be used.
func (p peers) etcdStatus(ctx context.Context) error {
	s, err := p.etcd.GetStatus(ctx, &etcd.GetStatusRequest{})
	switch {
	case err != nil:
		return err
	case s.Serving:
		return nil
	case s.Message == "":
		return errNotServing
	}
	return errors.New(s.Message)
}

// runtimeStatus returns why containerd cannot be used, and whether podd, whom it is
// asked of, answers.
func (p peers) runtimeStatus(ctx context.Context) (problem, unanswered error) {
	r, err := p.pods.GetRuntime(ctx, &pods.GetRuntimeRequest{})
	switch {
	case err != nil:
		return fmt.Errorf("podd: %w", err), err
	case r.Serving:
		return nil, nil
	case r.Message == "":
		return errNotServing, nil
	}
	return errors.New(r.Message), nil
}
