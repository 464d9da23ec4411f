package gpt

import (
	"errors"
	"fmt"
	"io"
)

const (
	mbrEntry   = 446  // the first of four
	mbrMagic   = 510  // 0x55 0xaa
	protective = 0xee // type of an entry that stands for the GPT
)

// MBR is the first sector, which tells programs that know no GPT that the disk
// is in use.
type MBR []byte

// ReadMBR reads it. One that is not protective, or protects but a part of the
// disk beside others (a "hybrid"), is an error: it is somebody else's.
func ReadMBR(disk io.ReaderAt) (MBR, error) {
	b := make([]byte, SectorSize)
	if _, err := disk.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read MBR: %w", err)
	}
	e := b[mbrEntry:]
	if b[mbrMagic] != 0x55 || b[mbrMagic+1] != 0xaa || e[4] != protective || le.Uint32(e[8:]) != 1 {
		return nil, errors.New("MBR: not a protective one")
	}
	for i := 1; i < 4; i++ {
		if e[16*i+4] != 0 {
			return nil, errors.New("MBR: has partitions of its own")
		}
	}
	return b, nil
}

// Covers reports whether it says that all of so many sectors are in use.
func (m MBR) Covers(sectors uint64) bool { return le.Uint32(m[mbrEntry+12:]) == mbrSize(sectors) }

// Cover writes it so.
func (m MBR) Cover(disk io.WriterAt, sectors uint64) error {
	le.PutUint32(m[mbrEntry+12:], mbrSize(sectors))
	if _, err := disk.WriteAt(m, 0); err != nil {
		return fmt.Errorf("write MBR: %w", err)
	}
	return nil
}

// mbrSize is at most what its 32 bits can say.
func mbrSize(sectors uint64) uint32 { return uint32(min(sectors-1, 1<<32-1)) }
