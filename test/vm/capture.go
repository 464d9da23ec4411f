package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
)

// newCapture returns a name that QEMU can write packets to; a machine that is
// started again on the same disk gets another file.
func newCapture(dir string) (string, error) {
	f, err := os.CreateTemp(dir, "packets-*.pcap")
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// Packet is something that the guest has sent.
type Packet struct {
	Protocol    string     // TCP, UDP, or what else it is
	From, To    netip.Addr // invalid where it is no IP packet
	FromPort    uint16
	Destination uint16 // port
}

func (p Packet) String() string {
	if !p.To.IsValid() {
		return p.Protocol
	}
	return fmt.Sprintf("%s %v → %v", p.Protocol, netip.AddrPortFrom(p.From, p.FromPort), netip.AddrPortFrom(p.To, p.Destination))
}

// link is the network between QEMU and its guest.
var link, link6 = netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fec0::/64")

// leaves tells whether the packet was meant for something beyond QEMU's own
// network. A name server on it asks others, so a question to one leaves too.
func (p Packet) leaves() bool {
	local := link.Contains(p.To) || link6.Contains(p.To) || p.To.IsLinkLocalUnicast() || p.To.IsLinkLocalMulticast() || p.To == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch {
	case !p.To.IsValid():
		return p.Protocol != "ARP"
	case p.Protocol == "UDP" && p.Destination == 53, p.Protocol == "TCP" && p.Destination == 53:
		return true
	}
	return !local
}

// Leaving returns those packets of an Offline machine that tried to leave, as far as
// QEMU has written them.
func (m *Machine) Leaving() ([]Packet, error) {
	if m.capture == "" {
		return nil, errors.New("only what an Offline machine sends is recorded")
	}
	f, err := os.Open(m.capture)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sent, err := packets(f)
	var out []Packet
	for _, p := range sent {
		if p.leaves() {
			out = append(out, p)
		}
	}
	return out, err
}

// guestMAC is what QEMU gives to its first network card.
const guestMAC = "\x52\x54\x00\x12\x34\x56"

// packets reads what the guest has sent from a pcap file that may still grow.
func packets(r io.Reader) ([]Packet, error) {
	head := make([]byte, 24)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("read the head of the packets: %w", err)
	}
	if binary.LittleEndian.Uint32(head) != 0xa1b2c3d4 {
		return nil, fmt.Errorf("packets in an unknown form, %x", head[:4])
	}
	var out []Packet
	for {
		record := make([]byte, 16)
		if _, err := io.ReadFull(r, record); err != nil {
			return out, unlessEnd(err)
		}
		frame := make([]byte, binary.LittleEndian.Uint32(record[8:]))
		if _, err := io.ReadFull(r, frame); err != nil {
			return out, unlessEnd(err)
		}
		if len(frame) >= 14 && string(frame[6:12]) == guestMAC {
			out = append(out, parseFrame(binary.BigEndian.Uint16(frame[12:]), frame[14:]))
		}
	}
}

// unlessEnd: the last record may be half written.
func unlessEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func parseFrame(kind uint16, b []byte) Packet {
	switch {
	case kind == 0x0806:
		return Packet{Protocol: "ARP"}
	case kind == 0x0800 && len(b) >= 20:
		p := Packet{From: netip.AddrFrom4([4]byte(b[12:])), To: netip.AddrFrom4([4]byte(b[16:]))}
		return p.transport(b[9], b[min(int(b[0]&15)*4, len(b)):])
	case kind == 0x86dd && len(b) >= 40:
		p := Packet{From: netip.AddrFrom16([16]byte(b[8:])), To: netip.AddrFrom16([16]byte(b[24:]))}
		return p.transport(b[6], b[40:])
	}
	return Packet{Protocol: fmt.Sprintf("Ethernet type %#04x", kind)}
}

func (p Packet) transport(number byte, b []byte) Packet {
	names := map[byte]string{6: "TCP", 17: "UDP"}
	p.Protocol = names[number]
	if p.Protocol == "" {
		p.Protocol = fmt.Sprintf("IP protocol %d", number)
		return p
	}
	if len(b) >= 4 {
		p.FromPort, p.Destination = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	return p
}
