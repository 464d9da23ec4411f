package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

const (
	// metricBase leaves room below for routes that should lead all of ours.
	metricBase = 1000
	// carrierGrace is how long a cable may be out until the link's routes go:
	// longer than a link takes to negotiate its speed anew.
	carrierGrace = 3 * time.Second
	// sameEnd is by how much two reports of an address's end may differ: the kernel
	// counts in seconds.
	sameEnd = 3 * time.Second
)

// engine decides. It is told what happens and returns what to do about it; the caller
// does it in order, then shows it the kernel anew. It is not safe for concurrent use.
type engine struct {
	random func() uint32

	settings *settings // nil: nobody has said yet
	seen     snapshot
	clients  map[linkIndex]*client
	lost     map[linkIndex]time.Time // since when a link has had no carrier

	macs  map[mac]bool      // of USB links that were there at boot
	mtus  map[linkIndex]int // of links before others replaced them
	said  map[string]bool   // texts of notes
	notes []action          // not in the log yet

	hostname  string // as last set
	derived   string // for want of a configured one
	listening bool
}

func newEngine(random func() uint32) *engine {
	return &engine{
		random: random, clients: map[linkIndex]*client{}, lost: map[linkIndex]time.Time{},
		macs: map[mac]bool{}, mtus: map[linkIndex]int{}, said: map[string]bool{},
	}
}

// configure takes new settings. Those assumed never replace those that were said.
func (e *engine) configure(now time.Time, s settings) []action {
	if s.assumed && e.settings != nil {
		return nil
	}
	e.settings = &s
	return e.settle(now, nil)
}

// observe takes what the kernel has.
func (e *engine) observe(now time.Time, s snapshot) []action {
	e.seen = s
	return e.settle(now, nil)
}

// receive takes an answer that came in on a link.
func (e *engine) receive(now time.Time, on linkIndex, a answer) []action {
	c, ok := e.clients[on]
	if !ok {
		return nil
	}
	return e.settle(now, sends(on, c.receive(now, a)))
}

// say writes to the log, each text once.
func (e *engine) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !e.said[text] {
		e.said[text] = true
		e.notes = append(e.notes, note{text})
	}
}

// isInside says that p is part of what is inside the machine. A larger network, such as
// the default route, leaves the way there as it is.
func (e *engine) isInside(p netip.Prefix) bool {
	within := func(n netip.Prefix) bool { return n.Bits() <= p.Bits() && n.Contains(p.Addr()) }
	return within(self) || within(hosts) || e.settings != nil && slices.ContainsFunc(e.settings.inside, within)
}

// hosts are the addresses of the loopback link.
var hosts = netip.MustParsePrefix("127.0.0.0/8")

// minMTU is what every host must take (RFC 791), with room for a pod's headers.
const minMTU = 576

// takes says whether the link can have this MTU.
func (l link) takes(mtu int) bool { return mtu >= minMTU && mtu <= l.largest() }

func (l link) largest() int { return cmp.Or(l.maxMTU, 1<<16-1) }

// tick does what is due by now.
func (e *engine) tick(now time.Time) []action { return e.settle(now, nil) }

// wake is when tick is to be called next, if nothing else happens; zero is never.
func (e *engine) wake() time.Time {
	var next time.Time
	for _, c := range e.clients {
		next = earliest(next, c.wake())
	}
	for _, l := range e.seen.links {
		if since, ok := e.lost[l.index]; ok && e.hasRoutes(l.index) {
			next = earliest(next, since.Add(carrierGrace))
		}
	}
	return next
}

func (e *engine) hasRoutes(on linkIndex) bool {
	return slices.ContainsFunc(e.seen.routes, func(r route) bool {
		return r.link == on && r.origin.ours() && r.gateway.IsValid()
	})
}

// resolvers are the name servers: the configuration's, else those of all leases in
// the order of their links.
func (e *engine) resolvers() []netip.Addr {
	if e.settings != nil && len(e.settings.nameservers) > 0 {
		return e.settings.nameservers
	}
	var all []netip.Addr
	for _, l := range e.seen.links {
		c := e.clients[l.index]
		if c == nil || c.lease == nil {
			continue
		}
		for _, a := range c.lease.nameservers {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

// timeServers are those of all leases in the order of their links.
func (e *engine) timeServers() []netip.Addr {
	var all []netip.Addr
	for _, l := range e.seen.links {
		if c := e.clients[l.index]; c != nil && c.lease != nil {
			for _, a := range c.lease.timeServers {
				if !slices.Contains(all, a) {
					all = append(all, a)
				}
			}
		}
	}
	return all
}

// settle brings everything to where it should be; first are actions that are due
// already.
func (e *engine) settle(now time.Time, first []action) []action {
	e.forget()
	var links []action
	for _, l := range e.seen.links {
		links = append(links, e.settleLink(now, l)...)
	}
	out := slices.Concat(e.settleFilter(), e.name(), e.notes, first, links)
	e.notes = nil
	// Listening begins before the first question and ends after the last answer.
	due := slices.ContainsFunc(e.seen.links, func(l link) bool {
		c := e.clients[l.index]
		return c != nil && c.waiting()
	})
	switch {
	case due && !e.listening:
		out = append([]action{listen{true}}, out...)
	case !due && e.listening:
		out = append(out, listen{false})
	}
	e.listening = due
	return out
}

// forget drops what belonged to links that are gone.
func (e *engine) forget() {
	there := map[linkIndex]bool{}
	for _, l := range e.seen.links {
		there[l.index] = true
	}
	for i := range e.clients {
		if !there[i] {
			delete(e.clients, i)
		}
	}
	for i := range e.lost {
		if !there[i] {
			delete(e.lost, i)
		}
	}
	for i := range e.mtus {
		if !there[i] {
			delete(e.mtus, i)
		}
	}
}

// name gives the machine its name: the configuration's, or one from the first
// physical link's address. Links that come later do not change it.
func (e *engine) name() []action {
	if e.settings == nil {
		return nil
	}
	if e.derived == "" {
		e.derived = derivedName(slices.DeleteFunc(slices.Clone(e.seen.links), func(l link) bool { return !e.wanted(l) }))
	}
	want := cmp.Or(e.settings.hostname, e.derived)
	if want == "" || want == e.hostname {
		return nil
	}
	e.hostname = want
	for _, c := range e.clients {
		c.hostname = want
	}
	return []action{setHostname{want}}
}

func derivedName(links []link) string {
	for _, l := range links {
		if l.kind == physical {
			return fmt.Sprintf("dactyl-%02x%02x%02x", l.mac[3], l.mac[4], l.mac[5])
		}
	}
	return ""
}

// settleLink brings one link to where it should be.
func (e *engine) settleLink(now time.Time, l link) []action {
	cfg, managed := e.configOf(l)
	out := e.settleUSB(l)
	if !l.up && (managed || l.kind == physical && e.wanted(l) || l.kind == loopback) {
		out = append(out, setUp{l})
	}
	if l.kind == loopback {
		return append(out, e.settleSelf(l)...)
	}
	if !managed {
		delete(e.clients, l.index)
		return out
	}
	if !l.loose {
		out = append(out, setLoose{l})
	}
	e.noteCarrier(now, l)
	out = append(out, e.settleClient(now, l, cfg.dhcp)...)
	out = append(out, e.settleMTU(l, cfg)...)
	want := e.want(now, l, cfg)
	return append(out, e.difference(l.index, want)...)
}

// self is an address that every machine has and that is nobody's on any network: the
// dummy address of RFC 7600. Programs that need an address of this machine which pods
// can reach and which never changes use it; without any network it is the only one.
var self = netip.PrefixFrom(netip.MustParseAddr(abi.SelfAddress), 32)

// settleSelf gives it to the loopback link, for this machine alone: the kernel never
// sends from it to others.
func (e *engine) settleSelf(l link) []action {
	there := slices.ContainsFunc(e.seen.addresses, func(a address) bool { return a.link == l.index && a.prefix == self })
	if there || e.settings == nil {
		return nil
	}
	return []action{setAddress{address{link: l.index, prefix: self, origin: fromConfig, scope: onHost}}}
}

// configOf returns what l should have, and whether that is for networkd to say.
func (e *engine) configOf(l link) (iface, bool) {
	if e.settings == nil || l.kind == loopback {
		return iface{}, false
	}
	for _, i := range e.settings.interfaces {
		if i.name == l.name {
			return i, true
		}
	}
	if l.kind != physical || !e.wanted(l) {
		return iface{}, false
	}
	if e.settings.assumed && e.has(l.index, fromConfig) {
		return iface{}, false
	}
	return iface{name: l.name, dhcp: len(e.settings.interfaces) == 0}, true
}

// bootTime is how long USB takes at most to find the machine's network cards.
const bootTime = 2 * time.Minute

// atBoot is networkd's mark on USB links that were there at boot: their group. It
// survives networkd.
const atBoot = 0xdac7

// wanted reports whether a link is one of the machine's. A USB stick that says it is a
// network card must not get the machine's routes and names by being plugged in.
// The card may be unplugged and come back: it is known by its address.
func (e *engine) wanted(l link) bool {
	if !l.usb || l.group == atBoot || e.seen.uptime < bootTime {
		return true
	}
	return e.macs[l.mac] && !slices.ContainsFunc(e.seen.links, func(o link) bool { return o.index != l.index && o.mac == l.mac })
}

// settleUSB marks a USB link that was there at boot, and says once of another that it is
// not configured.
func (e *engine) settleUSB(l link) []action {
	if !l.usb || l.kind != physical {
		return nil
	}
	if e.wanted(l) {
		e.macs[l.mac] = true
		if l.group == 0 {
			return []action{setGroup{l, atBoot}}
		}
		return nil
	}
	if _, managed := e.configOf(l); !managed && e.settings != nil {
		e.say("link %s (%s) is a USB device that was not there at boot: it is not configured unless network.interfaces lists it", l.name, l.mac)
	}
	return nil
}

// settleMTU gives the link the configuration's MTU, else DHCP's, else the one that it had
// before DHCP's.
func (e *engine) settleMTU(l link, cfg iface) []action {
	want := cfg.mtu
	if want == 0 && e.clients[l.index] != nil && e.clients[l.index].lease != nil {
		want = e.clients[l.index].lease.mtu
	}
	if want == 0 {
		want = e.mtus[l.index]
		delete(e.mtus, l.index)
	} else if _, known := e.mtus[l.index]; !known {
		e.mtus[l.index] = l.mtu
	}
	if want != 0 && !l.takes(want) {
		e.say("the MTU %d is not taken: want %d to %d on %s", want, minMTU, l.largest(), l.name)
		return nil
	}
	if want == 0 || want == l.mtu {
		return nil
	}
	return []action{setMTU{l, want}}
}

func (e *engine) has(on linkIndex, o origin) bool {
	return slices.ContainsFunc(e.seen.addresses, func(a address) bool { return a.link == on && a.origin == o })
}

func (e *engine) noteCarrier(now time.Time, l link) {
	if l.carrier {
		delete(e.lost, l.index)
	} else if _, known := e.lost[l.index]; !known {
		e.lost[l.index] = now
	}
}

// settleClient starts, runs or drops the link's DHCP.
func (e *engine) settleClient(now time.Time, l link, wanted bool) []action {
	c := e.clients[l.index]
	if !wanted {
		delete(e.clients, l.index)
		return nil
	}
	if c == nil {
		c = &client{mac: l.mac, hostname: e.hostname, random: e.random}
		if c.lease = e.adopt(l.index); c.lease != nil {
			c.wanted = c.lease.address.Addr()
		}
		e.clients[l.index] = c
	}
	if !l.carrier {
		c.pause()
		return sends(l.index, c.tick(now)) // sends nothing, but a lease may end
	}
	if c.state == idle {
		return sends(l.index, c.begin(now))
	}
	return sends(l.index, c.tick(now))
}

// adopt makes a lease of what a process before this one got and left in the kernel.
func (e *engine) adopt(on linkIndex) *lease {
	for _, a := range e.seen.addresses {
		if a.link != on || a.origin != fromDHCP {
			continue
		}
		l := &lease{address: a.prefix, until: a.until}
		for _, r := range e.seen.routes {
			if r.link == on && r.origin == fromDHCP {
				l.hops = append(l.hops, hop{r.destination, r.gateway})
			}
		}
		return l
	}
	return nil
}

func sends(on linkIndex, requests []request) []action {
	var out []action
	for _, r := range requests {
		out = append(out, send{on, r})
	}
	return out
}

// want is all that l should have of networkd.
func (e *engine) want(now time.Time, l link, cfg iface) snapshot {
	var w snapshot
	var hops []hop
	from := fromConfig
	for _, p := range cfg.addresses {
		w.addresses = append(w.addresses, address{link: l.index, prefix: p, origin: fromConfig})
	}
	if cfg.gateway.IsValid() {
		everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if cfg.gateway.Is6() {
			everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		hops = append(hops, hop{everything, cfg.gateway})
	}
	if c := e.clients[l.index]; c != nil && c.lease != nil {
		from, hops = fromDHCP, e.allowed(c.lease)
		w.addresses = append(w.addresses, address{link: l.index, prefix: c.lease.address, origin: fromDHCP, until: c.lease.until})
	}
	if since, lost := e.lost[l.index]; lost && !now.Before(since.Add(carrierGrace)) {
		return w
	}
	for _, h := range hops {
		w.routes = append(w.routes, routeOf(l.index, h, from, w.addresses))
	}
	return w
}

// allowed are a lease's routes without those that a server may not say. Of two to one
// destination the first counts: the kernel has one of a metric.
func (e *engine) allowed(l *lease) []hop {
	var hops []hop
	for _, h := range l.hops {
		if e.isInside(h.destination) {
			e.say("the route to %s of DHCP server %s is not taken: pods, Services or this machine have these addresses", h.destination, l.server)
			continue
		}
		if !slices.ContainsFunc(hops, func(o hop) bool { return o.destination == h.destination }) {
			hops = append(hops, h)
		}
	}
	return hops
}

// routeOf makes a route of a hop. An IPv4 route names its source, so that the kernel
// drops it with the address; an IPv6 one cannot while the address is still tentative.
func routeOf(on linkIndex, h hop, from origin, own []address) route {
	r := route{link: on, destination: h.destination, gateway: h.gateway, metric: metricBase + uint32(on), origin: from, onLink: h.gateway.IsValid()}
	for _, a := range own {
		if a.prefix.Addr().Is4() != h.destination.Addr().Is4() {
			continue
		}
		reached := a.prefix.Contains(h.gateway)
		if a.prefix.Addr().Is4() && (reached || !r.source.IsValid()) {
			r.source = a.prefix.Addr()
		}
		if reached {
			r.onLink = false
			break
		}
	}
	if h.gateway.Is6() && h.gateway.IsLinkLocalUnicast() {
		r.onLink = false
	}
	return r
}

// difference is what makes of what the link has what it should have. Removing
// comes first: the kernel drops the other addresses of a network with its first one.
func (e *engine) difference(on linkIndex, want snapshot) []action {
	var out []action
	for _, r := range e.seen.routes {
		if r.link == on && r.origin.ours() && !slices.ContainsFunc(want.routes, r.replacedBy) {
			out = append(out, deleteRoute{r})
		}
	}
	gone := map[netip.Addr]bool{}
	for _, a := range e.seen.addresses {
		if a.link == on && a.origin.ours() && !slices.ContainsFunc(want.addresses, a.same) {
			out = append(out, deleteAddress{a})
			gone[a.prefix.Addr()] = true
		}
	}
	for _, a := range want.addresses {
		if !slices.ContainsFunc(e.seen.addresses, a.equal) {
			out = append(out, setAddress{a})
		}
	}
	for _, r := range want.routes {
		if !slices.ContainsFunc(e.seen.routes, r.equal) || gone[r.source] {
			out = append(out, setRoute{r})
		}
	}
	return out
}

// same says that b is the same address, whatever its end.
func (a address) same(b address) bool {
	return a.link == b.link && a.prefix == b.prefix && a.origin == b.origin
}

func (a address) equal(b address) bool {
	return a.same(b) && a.until.IsZero() == b.until.IsZero() && a.until.Sub(b.until).Abs() < sameEnd
}

// replacedBy says that setting b takes r's place in the kernel.
func (r route) replacedBy(b route) bool {
	return r.link == b.link && r.destination == b.destination && r.metric == b.metric
}

func (r route) equal(b route) bool {
	return r.replacedBy(b) && r.gateway == b.gateway && r.origin == b.origin && (!r.source.IsValid() || r.source == b.source)
}
