package main

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// options are what we ask servers for.
var options = []dhcpv4.OptionCode{
	dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
	dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue,
	dhcpv4.OptionInterfaceMTU, dhcpv4.OptionNTPServers,
}

// encode writes a request as RFC 2131 has it.
func encode(r request) ([]byte, error) {
	kind := dhcpv4.MessageTypeRequest
	if r.kind == discover {
		kind = dhcpv4.MessageTypeDiscover
	}
	xid := dhcpv4.TransactionID{byte(r.xid >> 24), byte(r.xid >> 16), byte(r.xid >> 8), byte(r.xid)}
	m, err := dhcpv4.New(
		dhcpv4.WithTransactionID(xid),
		dhcpv4.WithHwAddr(r.mac[:]),
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithRequestedOptions(options...),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1500)),
	)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r, err)
	}
	m.NumSeconds = r.seconds
	if r.address.IsValid() {
		m.ClientIPAddr = r.address.AsSlice()
	}
	if r.requested.IsValid() {
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(r.requested.AsSlice()))
	}
	if r.server.IsValid() {
		m.UpdateOption(dhcpv4.OptServerIdentifier(r.server.AsSlice()))
	}
	if r.hostname != "" {
		m.UpdateOption(dhcpv4.OptHostName(r.hostname))
	}
	return m.ToBytes(), nil
}

// decode reads an answer. It returns an error for what is none.
func decode(b []byte) (answer, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return answer{}, fmt.Errorf("decode a DHCP message: %w", err)
	}
	kind, known := map[dhcpv4.MessageType]messageKind{
		dhcpv4.MessageTypeOffer: offer, dhcpv4.MessageTypeAck: ack, dhcpv4.MessageTypeNak: nak,
	}[m.MessageType()]
	if !known || m.OpCode != dhcpv4.OpcodeBootReply || len(m.ClientHWAddr) != len(mac{}) {
		return answer{}, fmt.Errorf("decode a DHCP message: %s is no answer to us", m.MessageType())
	}
	x := m.TransactionID
	return answer{
		kind:        kind,
		xid:         uint32(x[0])<<24 | uint32(x[1])<<16 | uint32(x[2])<<8 | uint32(x[3]),
		mac:         mac(m.ClientHWAddr),
		address:     addressIn(m),
		server:      addrOf(m.ServerIdentifier()),
		hops:        hopsIn(m),
		nameservers: addrsOf(m.DNS()),
		timeServers: addrsOf(m.NTPServers()),
		mtu:         mtuIn(m),
		lease:       m.IPAddressLeaseTime(0),
		renew:       m.IPAddressRenewalTime(0),
		rebind:      m.IPAddressRebindingTime(0),
	}, nil
}

// addressIn is the client's address; without a mask the one of its old class.
func addressIn(m *dhcpv4.DHCPv4) netip.Prefix {
	mask := m.SubnetMask()
	if mask == nil {
		mask = m.YourIPAddr.DefaultMask()
	}
	bits, _ := mask.Size()
	return netip.PrefixFrom(addrOf(m.YourIPAddr), bits)
}

// mtuIn is the link's MTU by the server's word; 0 for none.
func mtuIn(m *dhcpv4.DHCPv4) int {
	mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, m.Options)
	if err != nil {
		return 0
	}
	return int(mtu)
}

// hopsIn are the classless routes; the router counts only where there are none
// (RFC 3442).
func hopsIn(m *dhcpv4.DHCPv4) []hop {
	var hops []hop
	for _, r := range m.ClasslessStaticRoute() {
		bits, _ := r.Dest.Mask.Size()
		h := hop{destination: netip.PrefixFrom(addrOf(r.Dest.IP), bits).Masked()}
		if via := addrOf(r.Router); via.IsValid() && !via.IsUnspecified() {
			h.gateway = via
		}
		hops = append(hops, h)
	}
	if routers := addrsOf(m.Router()); hops == nil && len(routers) > 0 {
		hops = append(hops, hop{netip.PrefixFrom(netip.IPv4Unspecified(), 0), routers[0]})
	}
	return hops
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func addrsOf(ips []net.IP) []netip.Addr {
	var all []netip.Addr
	for _, ip := range ips {
		if a := addrOf(ip); a.IsValid() && !a.IsUnspecified() {
			all = append(all, a)
		}
	}
	return all
}
