package sign

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Offsets in a PE32+ file, relative to the PE signature unless said otherwise.
const (
	peOffsetAt     = 0x3c // from the start: where the PE signature is
	optionalAt     = 24
	checksumAt     = optionalAt + 64
	securityAt     = optionalAt + 112 + 4*8 // the fifth data directory: offset and size of the signatures
	optionalMagic  = 0x20b
	certAlignment  = 8
	certRevision   = 0x0200
	certTypePKCS7  = 0x0002
	certHeaderSize = 8
)

var errNoPE = errors.New("not a PE32+ file")

// pe is an EFI program and where in it the fields are that a signature leaves out.
type pe struct {
	b                  []byte
	checksum, security int
}

// parsePE copies b, padded to the alignment that the signature needs.
func parsePE(b []byte) (*pe, error) {
	if len(b) < peOffsetAt+4 || b[0] != 'M' || b[1] != 'Z' {
		return nil, errNoPE
	}
	at := int(binary.LittleEndian.Uint32(b[peOffsetAt:]))
	if at < 0 || at+securityAt+8 > len(b) || string(b[at:at+4]) != "PE\x00\x00" {
		return nil, errNoPE
	}
	if binary.LittleEndian.Uint16(b[at+optionalAt:]) != optionalMagic {
		return nil, errNoPE
	}
	p := &pe{checksum: at + checksumAt, security: at + securityAt}
	if size := binary.LittleEndian.Uint32(b[p.security+4:]); size != 0 {
		return nil, fmt.Errorf("already signed (%d bytes of signatures)", size)
	}
	p.b = make([]byte, (len(b)+certAlignment-1)/certAlignment*certAlignment)
	copy(p.b, b)
	return p, nil
}

// digest is the Authenticode hash: of everything but the checksum, the place of the
// signatures, and the signatures.
func (p *pe) digest() [32]byte {
	h := sha256.New()
	h.Write(p.b[:p.checksum])
	h.Write(p.b[p.checksum+4 : p.security])
	h.Write(p.b[p.security+8:])
	return [32]byte(h.Sum(nil))
}

// attach returns the file with the signature at its end.
func (p *pe) attach(pkcs7 []byte) []byte {
	size := certHeaderSize + len(pkcs7)
	out := append([]byte(nil), p.b...)
	binary.LittleEndian.PutUint32(out[p.security:], uint32(len(out)))
	out = binary.LittleEndian.AppendUint32(out, uint32(size))
	out = binary.LittleEndian.AppendUint16(out, certRevision)
	out = binary.LittleEndian.AppendUint16(out, certTypePKCS7)
	out = append(out, pkcs7...)
	out = append(out, make([]byte, -size&(certAlignment-1))...)
	binary.LittleEndian.PutUint32(out[p.security+4:], uint32(len(out)-len(p.b)))
	binary.LittleEndian.PutUint32(out[p.checksum:], checksum(out, p.checksum))
	return out
}

// checksum is the PE checksum: the ones' complement sum of 16-bit words, the
// checksum's own left out, plus the file's length.
func checksum(b []byte, skip int) uint32 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		if i == skip || i == skip+2 {
			continue
		}
		sum += uint32(binary.LittleEndian.Uint16(b[i:]))
		sum = sum&0xffff + sum>>16
	}
	return sum + uint32(len(b))
}
