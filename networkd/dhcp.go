package main

import (
	"fmt"
	"net/netip"
	"time"
)

// messageKind is DHCP's message type.
type messageKind string

const (
	discover messageKind = "DISCOVER"
	offer    messageKind = "OFFER"
	ask      messageKind = "REQUEST"
	ack      messageKind = "ACK"
	nak      messageKind = "NAK"
)

// request is a message to DHCP servers.
type request struct {
	kind      messageKind
	xid       uint32
	seconds   uint16 // since the client began
	mac       mac
	hostname  string
	address   netip.Addr // ciaddr: the client has it and answers there
	requested netip.Addr // the client wants it
	server    netip.Addr // whose offer is taken
	to        netip.Addr // invalid: broadcast
}

func (r request) String() string {
	text := string(r.kind)
	for _, part := range []struct {
		name string
		addr netip.Addr
	}{{"for", r.requested}, {"of", r.server}, {"from", r.address}, {"to", r.to}} {
		if part.addr.IsValid() {
			text += fmt.Sprintf(" %s %s", part.name, part.addr)
		}
	}
	return text
}

// answer is a message from a DHCP server. Durations are zero where it says nothing.
type answer struct {
	kind        messageKind
	xid         uint32
	mac         mac
	address     netip.Prefix
	server      netip.Addr
	hops        []hop
	nameservers []netip.Addr
	timeServers []netip.Addr
	mtu         int
	lease       time.Duration
	renew       time.Duration
	rebind      time.Duration
}

// hop is a way that a lease shows: a destination and its gateway (invalid: directly).
type hop struct {
	destination netip.Prefix
	gateway     netip.Addr
}

// lease is an address for a time. Times are zero for an endless one.
type lease struct {
	address       netip.Prefix
	server        netip.Addr // invalid when it was adopted
	hops          []hop
	nameservers   []netip.Addr
	timeServers   []netip.Addr
	mtu           int // 0: the server did not say
	renew, rebind time.Time
	until         time.Time
}

const (
	// forever is how DHCP writes an endless lease.
	forever = 0xffffffff * time.Second
	// minLease keeps a server from having us ask it all the time.
	minLease = 30 * time.Second
	// defaultLease is for servers that do not say.
	defaultLease = time.Hour
	// minRenewal is RFC 2131's least time between two tries to renew (4.4.5).
	minRenewal = time.Minute

	// A switch port that has just come up may be deaf for some seconds: ask soon again,
	// then ever more seldom. RFC 2131 begins with 4 s, for networks of its time.
	firstWait = time.Second
	lastWait  = time.Minute

	maxRequests = 4 // unanswered, until another offer is looked for
	maxConfirms = 3 // unanswered, until the network is taken to be another
)

// clientState is RFC 2131's figure 5, without the states that last no time.
type clientState int

const (
	idle       clientState = iota // no carrier
	selecting                     // waits for an offer
	requesting                    // has taken an offer
	rebooting                     // confirms an address from before
	bound
	renewing  // asks its server
	rebinding // asks any server
)

// client is one link's DHCP. Its methods return what to send.
type client struct {
	mac      mac
	hostname string
	random   func() uint32

	state    clientState
	lease    *lease     // in force; nil for none
	wanted   netip.Addr // the last address, asked for again
	taken    answer     // the offer, while requesting
	xid      uint32
	began    time.Time
	tries    int
	refusals int // since the last ACK
	next     time.Time
}

// begin starts when a carrier is there: with the lease that it has, if any.
func (c *client) begin(now time.Time) []request {
	c.enter(selecting, now)
	if c.lease != nil {
		c.enter(rebooting, now)
	}
	return c.tick(now)
}

// pause waits for a carrier. The lease stays and may end.
func (c *client) pause() { c.state = idle }

func (c *client) enter(s clientState, now time.Time) {
	c.state, c.tries, c.next = s, 0, now
	if s != requesting { // a request answers an offer by its number
		c.xid, c.began = c.random(), now
	}
}

// wake is when tick has something to do; zero is never.
func (c *client) wake() time.Time {
	var next time.Time
	if c.state != idle {
		next = c.next
	}
	if c.lease != nil {
		next = earliest(next, c.lease.until)
	}
	return next
}

// earliest ignores zero times.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// waiting says whether an answer is due.
func (c *client) waiting() bool { return c.state != idle && c.state != bound }

// tick does what is due by now.
func (c *client) tick(now time.Time) []request {
	if c.lease != nil && !c.lease.until.IsZero() && !now.Before(c.lease.until) {
		c.lease = nil
		if c.state == rebooting || c.state == bound || c.state == renewing || c.state == rebinding {
			c.enter(selecting, now)
		}
	}
	if c.state == idle || c.next.IsZero() || now.Before(c.next) {
		return nil
	}
	c.advance(now)
	c.next = c.after(now)
	c.tries++
	return []request{c.request(now)}
}

// advance leaves a state whose time is over.
func (c *client) advance(now time.Time) {
	switch {
	case c.state == requesting && c.tries >= maxRequests, c.state == rebooting && c.tries >= maxConfirms:
		c.enter(selecting, now)
	case c.state == bound:
		c.enter(renewing, now)
	}
	if c.state == renewing && !now.Before(c.lease.rebind) {
		c.enter(rebinding, now)
	}
}

// after is when to send again if nobody answers what is sent now.
func (c *client) after(now time.Time) time.Time {
	switch c.state {
	case renewing:
		return earliest(c.lease.rebind, now.Add(max(c.lease.rebind.Sub(now)/2, minRenewal)))
	case rebinding:
		return now.Add(max(c.lease.until.Sub(now)/2, minRenewal))
	default:
		return now.Add(c.spread(min(firstWait<<min(c.tries, 10), lastWait)))
	}
}

// spread moves a wait by up to an eighth either way, so that machines that got
// their power back together do not ask together.
func (c *client) spread(d time.Duration) time.Duration {
	return d - d/8 + time.Duration(c.random()>>16)*(d/4)>>16
}

func (c *client) request(now time.Time) request {
	r := request{kind: ask, xid: c.xid, mac: c.mac, hostname: c.hostname}
	r.seconds = uint16(min(now.Sub(c.began)/time.Second, 1<<16-1))
	switch c.state {
	case selecting:
		r.kind, r.requested = discover, c.wanted
	case requesting:
		r.requested, r.server = c.taken.address.Addr(), c.taken.server
	case rebooting:
		r.requested = c.lease.address.Addr()
	case renewing:
		r.address, r.to = c.lease.address.Addr(), c.lease.server
	case rebinding:
		r.address = c.lease.address.Addr()
	}
	return r
}

// receive takes an answer, if it is one to what was asked, by the server that was asked.
func (c *client) receive(now time.Time, a answer) []request {
	if !c.waiting() || a.xid != c.xid || a.mac != c.mac {
		return nil
	}
	if asked := c.asked(); asked.IsValid() && a.server != asked {
		return nil
	}
	switch {
	case a.kind == offer && c.state == selecting && a.usable():
		c.taken = a
		c.enter(requesting, now)
		return c.tick(now)
	case a.kind == ack && c.state != selecting && a.usable():
		c.bind(now, a)
	case a.kind == nak && c.state != selecting:
		return c.refused(now)
	}
	return nil
}

// asked is the server whose answer is due; invalid while any server may answer.
func (c *client) asked() netip.Addr {
	switch c.state {
	case requesting:
		return c.taken.server
	case renewing:
		return c.lease.server
	}
	return netip.Addr{}
}

// usable refuses addresses that no host can have, and servers that cannot be named.
func (a answer) usable() bool {
	ip := a.address.Addr()
	return ip.Is4() && !ip.IsUnspecified() && !ip.IsLoopback() && !ip.IsMulticast() && a.address.Bits() > 0 && a.server.Is4()
}

func (c *client) bind(now time.Time, a answer) {
	l := &lease{address: a.address, server: a.server, hops: a.hops, nameservers: a.nameservers, timeServers: a.timeServers, mtu: a.mtu}
	if a.lease != forever {
		d := a.lease
		if d == 0 {
			d = defaultLease
		}
		d = max(d, minLease)
		renew, rebind := a.renew, a.rebind
		if rebind <= 0 || rebind >= d {
			rebind = d / 8 * 7 // d * 7 may be more than a Duration holds
		}
		if renew <= 0 || renew >= rebind {
			renew = min(d/2, rebind)
		}
		l.renew, l.rebind, l.until = now.Add(renew), now.Add(rebind), now.Add(d)
	}
	c.lease, c.wanted, c.refusals = l, a.address.Addr(), 0
	c.state, c.next = bound, l.renew
}

// refused gives the address up and looks for another: at once the first time, then
// with growing pauses, since a server that refuses what it offers does so for ever.
func (c *client) refused(now time.Time) []request {
	c.lease, c.wanted = nil, netip.Addr{}
	c.enter(selecting, now)
	if c.refusals > 0 {
		c.next = now.Add(c.spread(min(firstWait<<min(c.refusals, 10), lastWait)))
	}
	c.refusals++
	return c.tick(now)
}
