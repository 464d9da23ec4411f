package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// What x/sys/unix does not name.
const (
	tableOwned   = 0x2 // NFT_TABLE_F_OWNER: only the socket that made the table changes it
	tablePersist = 0x4 // NFT_TABLE_F_PERSIST: the table outlives that socket
	metaIIFKind  = 26  // NFT_META_IIFKIND: the kind of the link that a packet came in on
	statusDNAT   = 0x20
)

// The chains' places in a packet's way. Connection tracking is at -200; kube-proxy and
// CNI's portmap translate destinations at -100.
const (
	beforeTracking    = -300
	afterTracking     = -150
	beforeTranslation = -110
	filtering         = 0
)

// table is networkd's own. kube-proxy and CNI have others, and a packet passes all of
// them: what one drops stays dropped.
var table = &nftables.Table{Name: "dactyl", Family: nftables.TableFamilyINet}

// packetFilter is the kernel's nftables, by one socket which owns the table. No other
// process, and no nft flush ruleset in a privileged pod, changes it meanwhile. When the
// socket is closed, the table stays, and the next networkd takes it over.
type packetFilter struct {
	conn *nftables.Conn
	raw  *netlink.Conn // the same socket

	mu      sync.Mutex // guards what follows
	applied *filter    // nil: not by this process
}

func openPacketFilter() (*packetFilter, error) {
	p := &packetFilter{}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		p.raw = c
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	p.conn = conn
	return p, nil
}

// inForce is the filter that this process has applied, or nil.
func (p *packetFilter) inForce() *filter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied
}

// errOwned says that another process keeps the table.
var errOwned = errors.New("another process owns the table")

// apply replaces the whole table in one transaction, so that no packet passes between
// the old rules and the new ones.
func (p *packetFilter) apply(f filter) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.own()
	if errors.Is(err, unix.EPERM) {
		err = errOwned
	}
	if err == nil {
		err = p.replace(f)
	}
	if err != nil {
		p.drain()
		return fmt.Errorf("set nftables' table %s: %w", table.Name, err)
	}
	p.applied = &f
	return nil
}

// own makes the table, or takes over the one that a networkd before this one left. The
// library has no flags for tables, so this request is written here.
func (p *packetFilter) own() error {
	e := netlink.NewAttributeEncoder()
	e.String(unix.NFTA_TABLE_NAME, table.Name)
	e.Bytes(unix.NFTA_TABLE_FLAGS, binary.BigEndian.AppendUint32(nil, tableOwned|tablePersist))
	body, err := e.Encode()
	if err != nil {
		return err
	}
	// nfgenmsg: family, version, and a resource number in network order.
	batch := []byte{0, 0, 0, unix.NFNL_SUBSYS_NFTABLES}
	_, err = p.raw.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: batch},
		{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE, Flags: netlink.Request | netlink.Acknowledge | netlink.Create},
			Data:   append([]byte{byte(table.Family), 0, 0, 0}, body...),
		},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: batch},
	})
	if err != nil {
		return err
	}
	_, err = p.raw.Receive() // the one acknowledgement
	return err
}

// drain throws away what the kernel may still answer to a request that failed.
func (p *packetFilter) drain() {
	p.raw.SetReadDeadline(time.Unix(1, 0))
	for {
		var answer *netlink.OpError
		if _, err := p.raw.Receive(); err != nil && (!errors.As(err, &answer) || answer.Timeout()) {
			break
		}
	}
	p.raw.SetReadDeadline(time.Time{})
}

// replace deletes what the table has and adds what f wants.
func (p *packetFilter) replace(f filter) error {
	chains, err := p.conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return err
	}
	sets, err := p.conn.GetSets(table)
	if err != nil {
		return err
	}
	p.conn.FlushTable(table)
	for _, c := range chains {
		if c.Table.Name == table.Name {
			p.conn.DelChain(c)
		}
	}
	for _, s := range sets {
		p.conn.DelSet(s)
	}
	b := builder{conn: p.conn}
	b.sets(f)
	b.untracked()
	b.inside(f)
	b.routed(f)
	b.ports()
	b.api(f)
	return errors.Join(b.err, p.conn.Flush())
}

// builder adds sets, chains and rules to a transaction.
type builder struct {
	conn    *nftables.Conn
	uplinks *nftables.Set // links to networks outside
	open    *nftables.Set // ports on which the machine answers everybody that it tracks nobody for
	every   *nftables.Set // ports of the machine on any address
	local   *nftables.Set // all of its ports
	err     error
}

func (b *builder) sets(f filter) {
	var links []nftables.SetElement
	for _, i := range f.uplinks {
		links = append(links, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i))})
	}
	b.uplinks = b.set("uplinks", nftables.TypeIFIndex, links)
	b.open = b.set("open_ports", nftables.TypeInetService, keys(func(p abi.Port) bool {
		return p.Number == abi.GatewayPort || p.Number == abi.KubernetesPort
	}))
	b.every = b.set("ports", nftables.TypeInetService, keys(func(p abi.Port) bool { return !p.Local }))
	b.local = b.set("local_ports", nftables.TypeInetService, keys(func(abi.Port) bool { return true }))
}

func keys(which func(abi.Port) bool) []nftables.SetElement {
	var all []nftables.SetElement
	for _, p := range abi.Ports {
		if which(p) {
			all = append(all, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(p.Number)})
		}
	}
	return all
}

func (b *builder) set(name string, kind nftables.SetDatatype, elements []nftables.SetElement) *nftables.Set {
	s := &nftables.Set{Table: table, Name: name, KeyType: kind}
	if kind == nftables.TypeIFIndex {
		s.KeyByteOrder = binaryutil.NativeEndian // so that nft shows names
	}
	b.err = errors.Join(b.err, b.conn.AddSet(s, elements))
	return s
}

// chain adds a chain, whose rules the function returned adds.
func (b *builder) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) func(...[]expr.Any) {
	c := b.conn.AddChain(&nftables.Chain{Name: name, Table: table, Type: kind, Hooknum: hook, Priority: &priority})
	return func(parts ...[]expr.Any) {
		r := &nftables.Rule{Table: table, Chain: c}
		for _, p := range parts {
			r.Exprs = append(r.Exprs, p...)
		}
		b.conn.AddRule(r)
	}
}

// untracked takes the API's connections out of connection tracking: when its table is
// full, the kernel drops every packet of a connection that is not in it. An untracked
// packet is not translated either.
//
// Not all of the loopback link is untracked: a process of the machine that uses a
// ClusterIP whose endpoint is the machine itself needs its answers translated back. So
// it is 127.0.0.0/8, which no Service can have as an endpoint, and the kubelet's port,
// by which kube-apiserver reaches it.
func (b *builder) untracked() {
	in := b.chain("untracked_in", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, beforeTracking)
	in(arrivesOn(b.uplinks), tcp, toPort(b.open), toThisMachine, notrack)

	out := b.chain("untracked_out", nftables.ChainTypeFilter, nftables.ChainHookOutput, beforeTracking)
	out(leavesBy(b.uplinks), tcp, fromPort(b.open), notrack)
	for _, l := range []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")} {
		out(onLoopback, to(l), tcp, toPort(b.local), notrack)
		out(onLoopback, from(l), tcp, fromPort(b.local), notrack)
	}
	out(onLoopback, tcp, toOne(abi.KubeletPort), notrack)
	out(onLoopback, tcp, fromOne(abi.KubeletPort), notrack)
}

// inside drops what arrives from outside for addresses that are the machine's and its
// pods' own business, before kube-proxy gives it another destination. Answers to
// connections from there pass. An uplink's own address passes too, so that a network
// which uses the pods' addresses for itself does not lock its owner out.
//
// It also drops what arrives from outside with an address of a pod or a Service, to which
// the way back is by another link: uplinks take packets whatever the link of their way back.
func (b *builder) inside(f filter) {
	in := b.chain("inside", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, afterTracking)
	in(notOnLoopback, to(netip.MustParsePrefix("127.0.0.0/8")), drop)
	for _, n := range f.inside {
		in(arrivesOn(b.uplinks), to(n), notToThisLink, notOfAConnection, drop)
		in(arrivesOn(b.uplinks), from(n), notBackByThisLink, drop)
	}
}

// routed drops what a neighbour wants the machine to forward: it is no router. What
// kube-proxy or portmap gave another destination passes, as do answers. A bridge that
// is an uplink forwards between its own ports.
func (b *builder) routed(f filter) {
	forward := b.chain("routed", nftables.ChainTypeFilter, nftables.ChainHookForward, filtering)
	for _, i := range f.uplinks {
		forward(ofKind("bridge"), meta(expr.MetaKeyIIF, expr.CmpOpEq, number(uint32(i))), meta(expr.MetaKeyOIF, expr.CmpOpEq, number(uint32(i))), accept)
	}
	forward(arrivesOn(b.uplinks), ofAConnection, accept)
	forward(arrivesOn(b.uplinks), translated, accept)
	forward(arrivesOn(b.uplinks), drop)
}

// ports gives the machine's own ports to the machine, whatever hostPort or NodePort
// wants them: the first translation of a connection is the only one, and this one
// leaves the destination as it is.
func (b *builder) ports() {
	for _, c := range []struct {
		name string
		hook *nftables.ChainHook
	}{{"ports_in", nftables.ChainHookPrerouting}, {"ports_out", nftables.ChainHookOutput}} {
		keep := b.chain(c.name, nftables.ChainTypeNAT, c.hook, beforeTranslation)
		keep(family4, tcp, toPort(b.every), toThisMachine, keep4)
		keep(family6, tcp, toPort(b.every), toThisMachine, keep6)
		keep(family4, to(netip.MustParsePrefix("127.0.0.0/8")), tcp, toPort(b.local), keep4)
		self := netip.PrefixFrom(netip.MustParseAddr(abi.SelfAddress), 32)
		keep(to(self), tcp, toOne(abi.SelfDNSPort), keep4)
		keep(to(self), udp, toOne(abi.SelfDNSPort), keep4)
	}
}

// api refuses the API's port to pods. Those of the machine's own network come over the
// loopback link. Tunnels are let through: the machine may be administered over a VPN.
func (b *builder) api(f filter) {
	in := b.chain("api", nftables.ChainTypeFilter, nftables.ChainHookInput, filtering)
	in(onLoopbackIn, accept)
	in(arrivesOn(b.uplinks), accept) // whatever its address: an owner's network may overlap with the pods'
	for _, n := range f.inside {
		in(from(n), tcp, toOne(abi.GatewayPort), reset)
	}
	in(ofKind("tun"), accept)
	in(ofKind("wireguard"), accept)
	in(tcp, toOne(abi.GatewayPort), reset)
}

// The words of which rules are made. All of them use register 1.
var (
	tcp = meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_TCP})
	udp = meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_UDP})

	family4 = meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{unix.NFPROTO_IPV4})
	family6 = meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{unix.NFPROTO_IPV6})

	// The loopback link is the first of every network namespace.
	onLoopback    = meta(expr.MetaKeyOIF, expr.CmpOpEq, number(1))
	onLoopbackIn  = meta(expr.MetaKeyIIF, expr.CmpOpEq, number(1))
	notOnLoopback = meta(expr.MetaKeyIIF, expr.CmpOpNeq, number(1))

	toThisMachine = []expr.Any{&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}, compare(expr.CmpOpEq, number(unix.RTN_LOCAL))}
	notToThisLink = []expr.Any{&expr.Fib{Register: 1, FlagDADDR: true, FlagIIF: true, ResultADDRTYPE: true}, compare(expr.CmpOpNeq, number(unix.RTN_LOCAL))}

	notBackByThisLink = []expr.Any{&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true}, compare(expr.CmpOpEq, number(0))}

	ofAConnection    = bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, expr.CmpOpNeq)
	notOfAConnection = bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, expr.CmpOpEq)
	translated       = bits(expr.CtKeySTATUS, statusDNAT, expr.CmpOpNeq)

	notrack = []expr.Any{&expr.Notrack{}}
	drop    = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	accept  = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	reset   = []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}

	keep4 = []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	}
	keep6 = []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV6, RegAddrMin: 1},
	}
)

func number(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }

func compare(op expr.CmpOp, with []byte) expr.Any { return &expr.Cmp{Op: op, Register: 1, Data: with} }

func meta(key expr.MetaKey, op expr.CmpOp, with []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, compare(op, with)}
}

func in(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}
}

func arrivesOn(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIF, Register: 1}, in(s)}
}

func leavesBy(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIF, Register: 1}, in(s)}
}

// ofKind is of the kind of the link that a packet came in on; a device of hardware has none.
func ofKind(kind string) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, kind)
	return meta(metaIIFKind, expr.CmpOpEq, name)
}

// Ports are the first two fields of TCP's and UDP's headers.
func sourcePort() expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}
}
func destinationPort() expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

func toPort(s *nftables.Set) []expr.Any   { return []expr.Any{destinationPort(), in(s)} }
func fromPort(s *nftables.Set) []expr.Any { return []expr.Any{sourcePort(), in(s)} }
func toOne(port uint16) []expr.Any {
	return []expr.Any{destinationPort(), compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(port))}
}
func fromOne(port uint16) []expr.Any {
	return []expr.Any{sourcePort(), compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(port))}
}

func from(p netip.Prefix) []expr.Any { return address1(p, 12, 8) }
func to(p netip.Prefix) []expr.Any   { return address1(p, 16, 24) }

// address1 compares the address at an offset of the IPv4 or the IPv6 header.
func address1(p netip.Prefix, offset4, offset6 uint32) []expr.Any {
	which, offset := family4, offset4
	if p.Addr().Is6() {
		which, offset = family6, offset6
	}
	want := p.Masked().Addr().AsSlice()
	mask := make([]byte, len(want))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append(which[:len(which):len(which)],
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(want))},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(want)), Mask: mask, Xor: make([]byte, len(want))},
		compare(expr.CmpOpEq, want),
	)
}

// bits compares some bits of a key of the connection with zero. A packet that has no
// connection has a state but no status: then the rule does not match.
func bits(key expr.CtKey, which uint32, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: number(which), Xor: number(0)},
		compare(op, number(0)),
	}
}
