package vm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// frames are what a guest sends, from the Ethernet type on, and whether it leaves.
var frames = []struct {
	what, bytes string
	leaves      bool
}{
	{"who has 10.0.2.2", "0806 0001080006040001 525400123456 0a00020f 000000000000 0a000202", false},
	{"DHCP discover", "0800 4500001c 00004000 40110000 00000000 ffffffff 00440043 00080000", false},
	{"an answer on a forwarded connection", "0800 45000028 00004000 40060000 0a00020f 0a000202 1ce8c001 00000000", false},
	{"a question to the name server", "0800 4500001c 00004000 40110000 0a00020f 0a000203 c0010035 00080000", true},
	{"time from the internet", "0800 4500001c 00004000 40110000 0a00020f a29fc801 c001007b 00080000", true},
	{"a registry", "0800 45000028 00004000 40060000 0a00020f 22c1a123 c00101bb 00000000", true},
	{"a ping", "0800 4500001c 00004000 40010000 0a00020f 08080808 08000000 00000000", true},
	{"router solicitation", "86dd 60000000 00083aff fe800000000000005054 00fffe123456 ff020000000000000000000000000002 8500000000000000", false},
	{"IPv6 to the internet", "86dd 60000000 00080640 fec00000000000005054 00fffe123456 20010db8000000000000000000000001 c00101bb00000000", true},
	{"something else", "88cc 0207", true},
}

func TestWhatLeaves(t *testing.T) {
	for _, f := range frames {
		file := new(bytes.Buffer)
		binary.Write(file, binary.LittleEndian, []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, 65536, 1})
		b, err := hex.DecodeString("525500020202" + fmt.Sprintf("%x", guestMAC) + strings.ReplaceAll(f.bytes, " ", ""))
		if err != nil {
			t.Fatal(f.what, err)
		}
		for _, frame := range [][]byte{append([]byte(guestMAC), b[6:]...), b} {
			binary.Write(file, binary.LittleEndian, []uint32{0, 0, uint32(len(frame)), uint32(len(frame))})
			file.Write(frame)
		}
		file.WriteString("half a rec")
		got, err := packets(file)
		if err != nil || len(got) != 2 {
			t.Fatalf("%s: %v, %v", f.what, got, err)
		}
		for _, p := range got {
			if p.leaves() != f.leaves {
				t.Errorf("%s: %v leaves: %t, want %t", f.what, p, p.leaves(), f.leaves)
			}
		}
	}
}
