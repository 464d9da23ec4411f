package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Offsets in the superblock: fs/ext4/ext4.h, struct ext4_super_block.
const (
	superOffset = 1024
	superSize   = 1024
	superMagic  = 0xef53

	atBlocks         = 0x04
	atFirstBlock     = 0x14
	atLogBlockSize   = 0x18
	atBlocksPerGroup = 0x20
	atMagic          = 0x38
	atState          = 0x3a
	atIncompat       = 0x60
	atUUID           = 0x68
	atBlocksHigh     = 0x150

	stateErrors   = 0x02 // EXT4_ERROR_FS
	incompat64bit = 0x80
)

// Superblock is what of it matters here.
type Superblock struct {
	Blocks         uint64
	BlockSize      uint64
	UUID           [16]byte
	HasErrors      bool // the kernel has found errors that no check has repaired since
	firstBlock     uint32
	blocksPerGroup uint32
}

// MadeByBuilder reports whether its UUID is of version 8, which the image's
// builder derives from names, so that all machines have the same one.
func (s Superblock) MadeByBuilder() bool { return s.UUID[6]>>4 == 8 }

// ReadSuperblock reads it from a device or a file.
func ReadSuperblock(r io.ReaderAt) (Superblock, error) {
	b := make([]byte, superSize)
	if _, err := r.ReadAt(b, superOffset); err != nil {
		return Superblock{}, fmt.Errorf("read superblock: %w", err)
	}
	le := binary.LittleEndian
	logSize := le.Uint32(b[atLogBlockSize:])
	if le.Uint16(b[atMagic:]) != superMagic || logSize > 6 {
		return Superblock{}, errors.New("superblock: not an ext4 filesystem")
	}
	s := Superblock{
		Blocks: uint64(le.Uint32(b[atBlocks:])), BlockSize: 1024 << logSize,
		HasErrors:  le.Uint16(b[atState:])&stateErrors != 0,
		firstBlock: le.Uint32(b[atFirstBlock:]), blocksPerGroup: le.Uint32(b[atBlocksPerGroup:]),
	}
	if le.Uint32(b[atIncompat:])&incompat64bit != 0 {
		s.Blocks |= uint64(le.Uint32(b[atBlocksHigh:])) << 32
	}
	copy(s.UUID[:], b[atUUID:])
	return s, nil
}
