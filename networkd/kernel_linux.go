package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernel is what networkd needs of the kernel.
type kernel interface {
	observe(now time.Time) (snapshot, error)
	driver(linkName) string
	// changed waits until links, addresses or routes may have changed.
	changed(context.Context) error

	setUp(link) error
	setGroup(link, uint32) error
	setMTU(link, int) error
	setLoose(link) error
	setAddress(a address, now time.Time) error
	deleteAddress(address) error
	setRoute(route) error
	deleteRoute(route) error
	setFilter(filter) error

	listen(on bool) error
	send(linkIndex, request) error
	// receive waits for a DHCP answer; what is none is skipped.
	receive(context.Context) (linkIndex, answer, error)
}

// Attributes that x/sys/unix does not name.
const (
	ifaProto   = 11
	rpFilter   = 8 // IPV4_DEVCONF_RP_FILTER, of IFLA_INET_CONF
	rpLoose    = 2 // RFC 3704: there is a way back, by whatever link
	confLength = 4 // bytes of each setting
)

// marks are the kernel's numbers of origins, the same for routes and addresses.
var marks = map[origin]uint8{fromDHCP: unix.RTPROT_DHCP, fromConfig: unix.RTPROT_STATIC}

// groups tell of every change that snapshot shows.
var groups = []uint32{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// linux is the kernel itself.
type linux struct {
	route  *netlink.Conn // questions and orders
	events *netlink.Conn
	ioctls int // a socket that ioctls are made on
	packets
	filter *packetFilter
}

// openKernel opens every socket there will be.
func openKernel() (*linux, error) {
	route, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Strict: true})
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	events, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	for _, g := range groups {
		if err := events.JoinGroup(g); err != nil {
			return nil, fmt.Errorf("join netlink group %d: %w", g, err)
		}
	}
	ioctls, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket for ioctls: %w", err)
	}
	p, err := openPackets()
	if err != nil {
		return nil, err
	}
	f, err := openPacketFilter()
	if err != nil {
		return nil, err
	}
	return &linux{route, events, ioctls, p, f}, nil
}

func (k *linux) setFilter(f filter) error { return k.filter.apply(f) }

func (k *linux) changed(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { k.events.SetReadDeadline(time.Unix(1, 0)) })()
	_, err := k.events.Receive()
	if errors.Is(err, unix.ENOBUFS) { // more than the socket holds: it has changed
		return nil
	}
	return err
}

func (k *linux) driver(name linkName) string {
	info, err := unix.IoctlGetEthtoolDrvinfo(k.ioctls, string(name))
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.Driver[:])
}

// observe asks for everything. If the kernel says that a table changed while it
// was read, what was read stands: its change has been announced as well.
func (k *linux) observe(now time.Time) (snapshot, error) {
	var s snapshot
	links, err := k.dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	if err != nil {
		return s, fmt.Errorf("list links: %w", err)
	}
	addresses, err := k.dump(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return s, fmt.Errorf("list addresses: %w", err)
	}
	main := make([]byte, unix.SizeofRtMsg)
	main[4] = unix.RT_TABLE_MAIN
	var routes []netlink.Message
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		main[0] = family
		some, err := k.dump(unix.RTM_GETROUTE, main)
		if err != nil && !errors.Is(err, unix.ENOENT) { // the table comes with its first route
			return s, fmt.Errorf("list routes: %w", err)
		}
		routes = append(routes, some...)
	}
	s.links = decodeAll(links, decodeLink)
	s.addresses = decodeAll(addresses, func(b []byte) (address, bool) { return decodeAddress(b, now) })
	s.routes = decodeAll(routes, decodeRoute)
	s.filter = k.filter.inForce()
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return s, fmt.Errorf("read the time since boot: %w", err)
	}
	s.uptime = time.Duration(up.Nano())
	slices.SortStableFunc(s.links, func(a, b link) int { return int(a.index - b.index) })
	slices.SortStableFunc(s.addresses, func(a, b address) int { return int(a.link - b.link) })
	return s, nil
}

func (k *linux) dump(kind netlink.HeaderType, header []byte) ([]netlink.Message, error) {
	return k.route.Execute(netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump}, Data: header})
}

// decodeAll leaves out what is not understood: it is not ours.
func decodeAll[T any](messages []netlink.Message, decode func([]byte) (T, bool)) []T {
	var all []T
	for _, m := range messages {
		if t, ok := decode(m.Data); ok {
			all = append(all, t)
		}
	}
	return all
}

// attributes calls f for each attribute behind a header of the given size.
func attributes(b []byte, header int, f func(*netlink.AttributeDecoder)) bool {
	if len(b) < header {
		return false
	}
	d, err := netlink.NewAttributeDecoder(b[header:])
	if err != nil {
		return false
	}
	for d.Next() {
		f(d)
	}
	return d.Err() == nil
}

func decodeLink(b []byte) (link, bool) {
	var l link
	ok := attributes(b, unix.SizeofIfInfomsg, func(d *netlink.AttributeDecoder) {
		switch d.Type() {
		case unix.IFLA_IFNAME:
			l.name = linkName(d.String())
		case unix.IFLA_ADDRESS:
			copy(l.mac[:], d.Bytes())
		case unix.IFLA_MTU:
			l.mtu = int(d.Uint32())
		case unix.IFLA_MAX_MTU:
			l.maxMTU = int(d.Uint32())
		case unix.IFLA_PARENT_DEV_BUS_NAME:
			l.usb = d.String() == "usb"
		case unix.IFLA_GROUP:
			l.group = d.Uint32()
		case unix.IFLA_CARRIER:
			l.carrier = d.Uint8() != 0
		case unix.IFLA_STATS64:
			// rtnl_link_stats64 begins with packets in and out, then bytes.
			if s := d.Bytes(); len(s) >= 32 {
				l.rx, l.tx = binary.NativeEndian.Uint64(s[16:]), binary.NativeEndian.Uint64(s[24:])
			}
		case unix.IFLA_AF_SPEC:
			l.loose = decodeRPFilter(d) == rpLoose
		case unix.IFLA_LINKINFO:
			d.Nested(func(n *netlink.AttributeDecoder) error {
				for n.Next() {
					if n.Type() == unix.IFLA_INFO_KIND {
						l.kind = n.String()
					}
				}
				return nil
			})
		}
	})
	if !ok {
		return l, false
	}
	l.index = linkIndex(binary.NativeEndian.Uint32(b[4:]))
	flags := binary.NativeEndian.Uint32(b[8:])
	l.up = flags&unix.IFF_UP != 0
	l.carrier = l.carrier && l.up
	switch hardware := binary.NativeEndian.Uint16(b[2:]); {
	case hardware == unix.ARPHRD_LOOPBACK:
		l.kind = loopback
	case hardware == unix.ARPHRD_ETHER && l.kind == "":
		l.kind = physical // software links have a kind of their own
	case l.kind == "":
		l.kind = "other"
	}
	return l, true
}

// decodeRPFilter returns how strictly a link takes IPv4 packets by their source. Settings
// of an address family are an array.
func decodeRPFilter(d *netlink.AttributeDecoder) (value uint32) {
	d.Nested(func(family *netlink.AttributeDecoder) error {
		for family.Next() {
			if family.Type() != unix.AF_INET {
				continue
			}
			family.Nested(func(inet *netlink.AttributeDecoder) error {
				for inet.Next() {
					if all := inet.Bytes(); inet.Type() == unix.IFLA_INET_CONF && len(all) >= rpFilter*confLength {
						value = binary.NativeEndian.Uint32(all[(rpFilter-1)*confLength:])
					}
				}
				return nil
			})
		}
		return nil
	})
	return value
}

func decodeAddress(b []byte, now time.Time) (address, bool) {
	var a address
	var ip, local netip.Addr
	var mark uint8
	ok := attributes(b, unix.SizeofIfAddrmsg, func(d *netlink.AttributeDecoder) {
		switch d.Type() {
		case unix.IFA_ADDRESS:
			ip, _ = netip.AddrFromSlice(d.Bytes())
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(d.Bytes())
		case unix.IFA_CACHEINFO:
			if c := d.Bytes(); len(c) >= 8 {
				if valid := binary.NativeEndian.Uint32(c[4:]); valid != ^uint32(0) {
					a.until = now.Add(time.Duration(valid) * time.Second)
				}
			}
		case ifaProto:
			mark = d.Uint8()
		}
	})
	if local.IsValid() { // of a point-to-point link, ip is the other side
		ip = local
	}
	if !ok || !ip.IsValid() {
		return a, false
	}
	a.link = linkIndex(binary.NativeEndian.Uint32(b[4:]))
	a.prefix = netip.PrefixFrom(ip, int(b[1]))
	a.origin = originOf(mark)
	a.scope = map[uint8]string{unix.RT_SCOPE_UNIVERSE: "global", unix.RT_SCOPE_LINK: "link", unix.RT_SCOPE_HOST: onHost}[b[3]]
	if a.origin == fromOthers && a.scope != "global" {
		a.origin = fromKernel
	}
	return a, true
}

// originOf reads a mark. The kernel has its own for routes (2, 9 for router
// advertisements) and for addresses (1 loopback, 2 advertised, 3 link-local).
func originOf(mark uint8) origin {
	for o, m := range marks {
		if m == mark {
			return o
		}
	}
	switch mark {
	case 1, 2, unix.RTPROT_RA:
		return fromKernel
	}
	return fromOthers
}

func decodeRoute(b []byte) (route, bool) {
	var r route
	ok := attributes(b, unix.SizeofRtMsg, func(d *netlink.AttributeDecoder) {
		switch d.Type() {
		case unix.RTA_DST:
			ip, _ := netip.AddrFromSlice(d.Bytes())
			r.destination = netip.PrefixFrom(ip, int(b[1]))
		case unix.RTA_GATEWAY:
			r.gateway, _ = netip.AddrFromSlice(d.Bytes())
		case unix.RTA_PREFSRC:
			r.source, _ = netip.AddrFromSlice(d.Bytes())
		case unix.RTA_OIF:
			r.link = linkIndex(d.Uint32())
		case unix.RTA_PRIORITY:
			r.metric = d.Uint32()
		}
	})
	if !ok || b[4] != unix.RT_TABLE_MAIN {
		return r, false
	}
	if !r.destination.IsValid() {
		everything := netip.IPv4Unspecified()
		if b[0] == unix.AF_INET6 {
			everything = netip.IPv6Unspecified()
		}
		r.destination = netip.PrefixFrom(everything, 0)
	}
	r.origin = originOf(b[5])
	return r, true
}

// order sends one request and waits for the kernel's word. Errors in fine mean
// that it is done already.
func (k *linux) order(kind netlink.HeaderType, flags netlink.HeaderFlags, header []byte, fill func(*netlink.AttributeEncoder), fine ...error) error {
	e := netlink.NewAttributeEncoder()
	fill(e)
	body, err := e.Encode()
	if err != nil {
		return err
	}
	m := netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   append(header, body...),
	}
	_, err = k.route.Execute(m)
	for _, f := range fine {
		if errors.Is(err, f) {
			return nil
		}
	}
	return err
}

func (k *linux) setUp(l link) error {
	h := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(h[4:], uint32(l.index))
	binary.NativeEndian.PutUint32(h[8:], unix.IFF_UP)  // flags
	binary.NativeEndian.PutUint32(h[12:], unix.IFF_UP) // which of them to change
	if err := k.order(unix.RTM_NEWLINK, 0, h, func(*netlink.AttributeEncoder) {}); err != nil {
		return fmt.Errorf("set link %s up: %w", l.name, err)
	}
	return nil
}

func (k *linux) setGroup(l link, group uint32) error {
	if err := k.setLink(l, unix.IFLA_GROUP, group); err != nil {
		return fmt.Errorf("mark link %s: %w", l.name, err)
	}
	return nil
}

func (k *linux) setMTU(l link, mtu int) error {
	if err := k.setLink(l, unix.IFLA_MTU, uint32(mtu)); err != nil {
		return fmt.Errorf("set the MTU of link %s to %d: %w", l.name, mtu, err)
	}
	return nil
}

// setLoose writes the sysctl rp_filter of a link, without a file.
func (k *linux) setLoose(l link) error {
	h := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(h[4:], uint32(l.index))
	err := k.order(unix.RTM_NEWLINK, 0, h, func(e *netlink.AttributeEncoder) {
		e.Nested(unix.IFLA_AF_SPEC, func(family *netlink.AttributeEncoder) error {
			family.Nested(unix.AF_INET, func(inet *netlink.AttributeEncoder) error {
				inet.Nested(unix.IFLA_INET_CONF, func(conf *netlink.AttributeEncoder) error {
					conf.Uint32(rpFilter, rpLoose)
					return nil
				})
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("set rp_filter of link %s: %w", l.name, err)
	}
	return nil
}

func (k *linux) setLink(l link, attribute uint16, value uint32) error {
	h := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(h[4:], uint32(l.index))
	return k.order(unix.RTM_NEWLINK, 0, h, func(e *netlink.AttributeEncoder) { e.Uint32(attribute, value) })
}

func (k *linux) setAddress(a address, now time.Time) error {
	err := k.order(unix.RTM_NEWADDR, netlink.Create|netlink.Replace, a.header(), func(e *netlink.AttributeEncoder) {
		a.encode(e)
		e.Uint8(ifaProto, marks[a.origin])
		if !a.until.IsZero() {
			// ifa_cacheinfo: preferred, valid, and two stamps that only the kernel writes.
			seconds := uint32(max(a.until.Sub(now).Round(time.Second)/time.Second, 1))
			c := binary.NativeEndian.AppendUint32(nil, seconds)
			c = binary.NativeEndian.AppendUint32(c, seconds)
			e.Bytes(unix.IFA_CACHEINFO, append(c, make([]byte, 8)...))
		}
	})
	if err != nil {
		return fmt.Errorf("set address %s: %w", a, err)
	}
	return nil
}

func (k *linux) deleteAddress(a address) error {
	if err := k.order(unix.RTM_DELADDR, 0, a.header(), a.encode, unix.EADDRNOTAVAIL, unix.ENODEV); err != nil {
		return fmt.Errorf("delete address %s: %w", a, err)
	}
	return nil
}

func (a address) header() []byte {
	h := make([]byte, unix.SizeofIfAddrmsg)
	h[0], h[1] = family(a.prefix.Addr()), byte(a.prefix.Bits())
	if a.scope == onHost {
		h[3] = unix.RT_SCOPE_HOST
	}
	binary.NativeEndian.PutUint32(h[4:], uint32(a.link))
	return h
}

func (a address) encode(e *netlink.AttributeEncoder) {
	ip := a.prefix.Addr().AsSlice()
	e.Bytes(unix.IFA_LOCAL, ip)
	e.Bytes(unix.IFA_ADDRESS, ip)
	if a.prefix.Addr().Is4() && a.prefix.Bits() < 31 {
		e.Bytes(unix.IFA_BROADCAST, lastOf(a.prefix))
	}
}

// lastOf is an IPv4 network's broadcast address.
func lastOf(p netip.Prefix) []byte {
	n := binary.BigEndian.Uint32(p.Addr().AsSlice()) | uint32(1<<(32-p.Bits())-1)
	return binary.BigEndian.AppendUint32(nil, n)
}

func (k *linux) setRoute(r route) error {
	if err := k.order(unix.RTM_NEWROUTE, netlink.Create|netlink.Replace, r.header(), r.encode); err != nil {
		return fmt.Errorf("set route %s: %w", r, err)
	}
	return nil
}

func (k *linux) deleteRoute(r route) error {
	if err := k.order(unix.RTM_DELROUTE, 0, r.header(), r.encode, unix.ESRCH, unix.ENODEV); err != nil {
		return fmt.Errorf("delete route %s: %w", r, err)
	}
	return nil
}

func (r route) header() []byte {
	h := make([]byte, unix.SizeofRtMsg)
	h[0], h[1] = family(r.destination.Addr()), byte(r.destination.Bits())
	h[4], h[5], h[7] = unix.RT_TABLE_MAIN, marks[r.origin], unix.RTN_UNICAST
	h[6] = unix.RT_SCOPE_UNIVERSE
	if !r.gateway.IsValid() && r.destination.Addr().Is4() {
		h[6] = unix.RT_SCOPE_LINK
	}
	if r.onLink {
		binary.NativeEndian.PutUint32(h[8:], unix.RTNH_F_ONLINK)
	}
	return h
}

func (r route) encode(e *netlink.AttributeEncoder) {
	if r.destination.Bits() > 0 {
		e.Bytes(unix.RTA_DST, r.destination.Masked().Addr().AsSlice())
	}
	if r.gateway.IsValid() {
		e.Bytes(unix.RTA_GATEWAY, r.gateway.AsSlice())
	}
	if r.source.IsValid() {
		e.Bytes(unix.RTA_PREFSRC, r.source.AsSlice())
	}
	e.Uint32(unix.RTA_OIF, uint32(r.link))
	e.Uint32(unix.RTA_PRIORITY, r.metric)
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
