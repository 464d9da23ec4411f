package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// GUID identifies a disk, a partition or a partition type. It is written the usual
// way, "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", in lower case.
type GUID string

// Types of partition, by https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
const (
	TypeESP  GUID = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	TypeRoot GUID = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" // for x86-64
	TypeVar  GUID = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
	TypeData GUID = "0fc63daf-8483-4772-8e79-3d69d8477de4"
)

// NewGUID derives an identifier from words: the same words give the same one, which
// random identifiers would not. Its form is RFC 9562's version 8, "made by whoever".
func NewGUID(words ...string) GUID {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	h := hex.EncodeToString(sum[:16])
	return GUID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

// bytes is the form on disk: the first three groups little-endian, the rest as written.
func (g GUID) bytes() (b [16]byte, err error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(string(g), "-", ""))
	if err != nil || len(raw) != 16 || len(g) != 36 {
		return b, fmt.Errorf("disk: %q is not a GUID", g)
	}
	copy(b[:], raw)
	binary.LittleEndian.PutUint32(b[0:], binary.BigEndian.Uint32(raw[0:]))
	binary.LittleEndian.PutUint16(b[4:], binary.BigEndian.Uint16(raw[4:]))
	binary.LittleEndian.PutUint16(b[6:], binary.BigEndian.Uint16(raw[6:]))
	return b, nil
}
