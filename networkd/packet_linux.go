package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	serverPort = 67
	clientPort = 68

	ipHeader  = 20
	udpHeader = 8

	// nothingOn is a protocol of frames that no network carries (one of IEEE 802's for
	// local experiments): what the packet socket is bound to while it should rest. The
	// kernel has no way to unbind one.
	nothingOn = unix.ETH_P_802_EX1
)

// packets are the two sockets of DHCP. raw hears answers and sends broadcasts while
// there is no address; it is not bound to a link, since one filter in the kernel
// serves all of them. udp sends renewals by unicast; nothing is read from it, but
// while it is there the kernel does not call our port unreachable.
type packets struct {
	raw *socket.Conn
	udp *socket.Conn
}

func openPackets() (packets, error) {
	raw, err := socket.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0, "packet", nil)
	if err != nil {
		return packets{}, fmt.Errorf("open a packet socket: %w", err)
	}
	filter, err := bpf.Assemble(toClientPort)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	if err := raw.SetBPF(filter); err != nil {
		return packets{}, fmt.Errorf("filter the packet socket: %w", err)
	}
	udp, err := openUDP()
	if err != nil {
		return packets{}, fmt.Errorf("open UDP port %d: %w", clientPort, err)
	}
	return packets{raw, udp}, nil
}

func openUDP() (*socket.Conn, error) {
	c, err := socket.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0, "udp", nil)
	if err != nil {
		return nil, err
	}
	return c, errors.Join(
		c.SetsockoptInt(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), // this process's successor opens it too
		c.SetsockoptInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 0),    // as little as there can be
		c.Bind(&unix.SockaddrInet4{Port: clientPort}),
	)
}

// toClientPort passes unfragmented UDP over IPv4 to port 68. A frame begins with its
// IP header here.
var toClientPort = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 9, Size: 1}, // protocol
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 5},
	bpf.LoadAbsolute{Off: 6, Size: 2}, // fragment
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 3},
	bpf.LoadMemShift{Off: 0},          // length of the IP header
	bpf.LoadIndirect{Off: 2, Size: 2}, // destination port
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: clientPort, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: 1 << 16},
}

func (p packets) listen(on bool) error {
	protocol := uint16(nothingOn)
	if on {
		protocol = unix.ETH_P_IP
	}
	if err := p.raw.Bind(&unix.SockaddrLinklayer{Protocol: bigEndian(protocol)}); err != nil {
		return fmt.Errorf("listen for DHCP answers: %w", err)
	}
	return nil
}

// bigEndian is htons.
func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

func (p packets) send(on linkIndex, r request) error {
	payload, err := encode(r)
	if err != nil {
		return err
	}
	if r.to.IsValid() {
		to := &unix.SockaddrInet4{Port: serverPort, Addr: r.to.As4()}
		from := unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(on), Spec_dst: r.address.As4()})
		_, err = p.udp.Sendmsg(context.Background(), payload, from, to, 0)
	} else {
		to := &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_IP), Ifindex: int(on), Halen: 6}
		copy(to.Addr[:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		err = p.raw.Sendto(context.Background(), datagram(r.address, payload), 0, to)
	}
	if err != nil {
		return fmt.Errorf("send %s on link %d: %w", r, on, err)
	}
	return nil
}

// datagram puts payload into a UDP broadcast from our port to the server's.
func datagram(from netip.Addr, payload []byte) []byte {
	b := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(payload))
	b[0], b[8], b[9] = 4<<4|ipHeader/4, 64, unix.IPPROTO_UDP // version and length, hops
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	if from.IsValid() {
		copy(b[12:16], from.AsSlice())
	}
	copy(b[16:20], []byte{255, 255, 255, 255})
	binary.BigEndian.PutUint16(b[10:], ^sum(0, b[:ipHeader]))

	udp := b[ipHeader:]
	binary.BigEndian.PutUint16(udp[0:], clientPort)
	binary.BigEndian.PutUint16(udp[2:], serverPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	b = append(b, payload...)
	// The checksum covers addresses, protocol and length too (RFC 768).
	pseudo := sum(0, b[12:20]) // addresses
	pseudo = sum(uint32(pseudo)+unix.IPPROTO_UDP+uint32(udpHeader+len(payload)), b[ipHeader:])
	if pseudo == 0xffff {
		pseudo = 0 // sent as all ones: zero means none
	}
	binary.BigEndian.PutUint16(b[ipHeader+6:], ^pseudo)
	return b
}

// sum is the Internet's ones' complement sum (RFC 1071).
func sum(start uint32, b []byte) uint16 {
	n := start
	for ; len(b) >= 2; b = b[2:] {
		n += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		n += uint32(b[0]) << 8
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}

func (p packets) receive(ctx context.Context) (linkIndex, answer, error) {
	frame := make([]byte, 1<<16)
	for {
		n, from, err := p.raw.Recvfrom(ctx, frame, 0)
		if errors.Is(err, unix.ENETDOWN) { // a link went down; the others go on
			continue
		}
		if err != nil {
			return 0, answer{}, fmt.Errorf("receive DHCP: %w", err)
		}
		payload, ok := payloadOf(frame[:n])
		if !ok {
			continue
		}
		a, err := decode(payload)
		if err != nil {
			continue // others' traffic
		}
		return linkIndex(from.(*unix.SockaddrLinklayer).Ifindex), a, nil
	}
}

// payloadOf unpacks a datagram from a server's port. The checksum is not looked at: a
// virtual machine's neighbour leaves it to a card that is not there.
func payloadOf(b []byte) ([]byte, bool) {
	if len(b) < ipHeader || b[0]>>4 != 4 {
		return nil, false
	}
	header := int(b[0]&0xf) * 4
	if header < ipHeader || len(b) < header+udpHeader {
		return nil, false
	}
	udp := b[header:]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if binary.BigEndian.Uint16(udp) != serverPort || length < udpHeader || length > len(udp) {
		return nil, false
	}
	return udp[udpHeader:length], true
}
