package main

import (
	"fmt"
	"net/netip"
	"time"
)

// mac is an Ethernet address.
type mac [6]byte

func (m mac) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// linkIndex is the kernel's number of a link; it is never used twice in one boot.
type linkIndex int

// linkName is the kernel's name of a link. It can change; the index cannot.
type linkName string

const (
	physical = "physical"
	loopback = "loopback"
)

// link is a link as the kernel has it.
type link struct {
	index   linkIndex
	name    linkName
	kind    string // physical, loopback, or the kernel's word: veth, bridge, …
	up      bool
	carrier bool
	mac     mac
	mtu     int
	maxMTU  int    // that the driver takes; 0: it does not say
	usb     bool   // its hardware is a USB device
	loose   bool   // it takes IPv4 packets whose answers leave by another link
	group   uint32 // the kernel's number for links that belong together; networkd's mark on some
	rx, tx  uint64 // bytes
}

// origin says who made an address or a route.
type origin string

const (
	fromDHCP   origin = "dhcp"
	fromConfig origin = "static"
	fromKernel origin = "kernel"
	fromOthers origin = "other"
)

func (o origin) ours() bool { return o == fromDHCP || o == fromConfig }

// address is one address of a link. until is when it ends; zero is never.
type address struct {
	link   linkIndex
	prefix netip.Prefix // with the host's part
	origin origin
	until  time.Time
	scope  string // global, link, host; empty is global
}

// route is one route of the main table. A default route's destination is 0.0.0.0/0
// or ::/0.
type route struct {
	link        linkIndex
	destination netip.Prefix
	gateway     netip.Addr // invalid: directly
	source      netip.Addr // invalid: the kernel chooses
	metric      uint32
	origin      origin
	onLink      bool // the gateway is reached although no address says so
}

// onHost is the scope of addresses that only the machine itself uses.
const onHost = "host"

// snapshot is all that the kernel has.
type snapshot struct {
	links     []link
	addresses []address
	routes    []route
	uptime    time.Duration // since the kernel began
	filter    *filter       // the packet filter that this process has set; nil: none
}

// settings are what the configuration says.
type settings struct {
	hostname    string
	interfaces  []iface // empty: DHCP on every physical link
	nameservers []netip.Addr
	inside      []netip.Prefix // pods' and Services' networks
	// assumed: nobody has said so, configd does not answer. Then nothing is
	// taken away that a configuration may have given.
	assumed bool
}

// iface is what the configuration says of one link.
type iface struct {
	name      linkName
	dhcp      bool
	addresses []netip.Prefix
	gateway   netip.Addr
	mtu       int // 0: DHCP's, else the kernel's
}

// An action is what the engine wants done, in order.
type action interface{ String() string }

type (
	setUp    struct{ link link }
	setLoose struct{ link link }
	setGroup struct {
		link  link
		group uint32
	}
	setMTU struct {
		link link
		mtu  int
	}
	setAddress    struct{ address address }
	deleteAddress struct{ address address }
	setRoute      struct{ route route }
	deleteRoute   struct{ route route }
	setFilter     struct{ filter filter }
	setHostname   struct{ name string }
	listen        struct{ on bool }     // for DHCP answers
	note          struct{ text string } // to the log
	send          struct {
		link    linkIndex
		request request
	}
)

func (a setUp) String() string         { return fmt.Sprintf("up %s", a.link.name) }
func (a setLoose) String() string      { return fmt.Sprintf("loose %s", a.link.name) }
func (a setGroup) String() string      { return fmt.Sprintf("mark %s", a.link.name) }
func (a setMTU) String() string        { return fmt.Sprintf("mtu %d on %s", a.mtu, a.link.name) }
func (a note) String() string          { return "note: " + a.text }
func (a setAddress) String() string    { return "set address " + a.address.String() }
func (a deleteAddress) String() string { return "delete address " + a.address.String() }
func (a setRoute) String() string      { return "set route " + a.route.String() }
func (a deleteRoute) String() string   { return "delete route " + a.route.String() }
func (a setFilter) String() string     { return "set " + a.filter.String() }
func (a setHostname) String() string   { return "hostname " + a.name }
func (a listen) String() string {
	return map[bool]string{true: "listen", false: "stop listening"}[a.on]
}
func (a send) String() string { return fmt.Sprintf("send %s on %d", a.request, a.link) }

func (a address) String() string {
	return fmt.Sprintf("%s on %d, %s", a.prefix, a.link, a.origin)
}

func (r route) String() string {
	text := r.destinationText()
	if r.gateway.IsValid() {
		text += " via " + r.gateway.String()
	}
	return fmt.Sprintf("%s on %d metric %d, %s", text, r.link, r.metric, r.origin)
}

func (r route) destinationText() string {
	if r.destination.Bits() == 0 {
		return "default"
	}
	return r.destination.String()
}
