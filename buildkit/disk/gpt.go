package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

const (
	sectorSize = 512
	// Alignment of partitions, in bytes: a multiple of every flash's erase block in use.
	Alignment = 1 << 20

	gptEntries   = 128
	gptEntrySize = 128
	gptTable     = gptEntries * gptEntrySize // bytes
	gptHeader    = 92                        // bytes that its checksum covers
	gptRevision  = 0x00010000
	maxName      = 36 // UTF-16 units
)

// Partition is one entry of the table.
type Partition struct {
	Name    string // the GPT's label, such as ROOT-A
	Type    GUID
	UUID    GUID
	Size    int64  // bytes, a multiple of Alignment
	Content string // file that is written to its start; "" leaves it empty
	offset  int64
}

// table is the GPT of a disk.
type table struct {
	disk       GUID
	partitions []Partition
	size       int64 // of the disk, in bytes
}

// layout places the partitions one after the other and the backup table behind them.
func layout(disk GUID, parts []Partition) (table, error) {
	t := table{disk: disk, size: Alignment}
	if len(parts) > gptEntries {
		return t, fmt.Errorf("disk: %d partitions, a GPT holds %d", len(parts), gptEntries)
	}
	for _, p := range parts {
		if p.Size <= 0 || p.Size%Alignment != 0 {
			return t, fmt.Errorf("disk: partition %s has %d bytes, want a multiple of %d", p.Name, p.Size, Alignment)
		}
		if len(utf16.Encode([]rune(p.Name))) > maxName {
			return t, fmt.Errorf("disk: partition name %q is longer than %d", p.Name, maxName)
		}
		p.offset = t.size
		t.size += p.Size
		t.partitions = append(t.partitions, p)
	}
	t.size += Alignment
	return t, nil
}

func (t table) sectors() uint64 { return uint64(t.size / sectorSize) }

// entries is the partition array.
func (t table) entries() ([]byte, error) {
	b := make([]byte, gptTable)
	for i, p := range t.partitions {
		e := b[i*gptEntrySize:]
		kind, err := p.Type.bytes()
		if err != nil {
			return nil, err
		}
		uuid, err := p.UUID.bytes()
		if err != nil {
			return nil, err
		}
		copy(e[0:], kind[:])
		copy(e[16:], uuid[:])
		binary.LittleEndian.PutUint64(e[32:], uint64(p.offset/sectorSize))
		binary.LittleEndian.PutUint64(e[40:], uint64((p.offset+p.Size)/sectorSize-1))
		for j, u := range utf16.Encode([]rune(p.Name)) {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
	}
	return b, nil
}

// header is the sector that describes the table, at sector own; the other copy is at
// sector other and the array at sector array.
func (t table) header(entries []byte, own, other, array uint64) ([]byte, error) {
	disk, err := t.disk.bytes()
	if err != nil {
		return nil, err
	}
	b := make([]byte, sectorSize)
	le := binary.LittleEndian
	copy(b, "EFI PART")
	le.PutUint32(b[8:], gptRevision)
	le.PutUint32(b[12:], gptHeader)
	le.PutUint64(b[24:], own)
	le.PutUint64(b[32:], other)
	le.PutUint64(b[40:], 2+gptTable/sectorSize)             // first usable sector
	le.PutUint64(b[48:], t.sectors()-2-gptTable/sectorSize) // last usable sector
	copy(b[56:], disk[:])
	le.PutUint64(b[72:], array)
	le.PutUint32(b[80:], gptEntries)
	le.PutUint32(b[84:], gptEntrySize)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeader]))
	return b, nil
}

// protectiveMBR tells programs that know no GPT that the disk is full.
func (t table) protectiveMBR() []byte {
	b := make([]byte, sectorSize)
	e := b[446:]
	copy(e, []byte{0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(t.sectors()-1, 1<<32-1)))
	b[510], b[511] = 0x55, 0xaa
	return b
}

// areas returns what the table writes on the disk, by byte offset.
func (t table) areas() (map[int64][]byte, error) {
	entries, err := t.entries()
	if err != nil {
		return nil, err
	}
	last := t.sectors() - 1
	backup := last - gptTable/sectorSize
	first, err := t.header(entries, 1, last, 2)
	if err != nil {
		return nil, err
	}
	second, err := t.header(entries, last, 1, backup)
	if err != nil {
		return nil, err
	}
	return map[int64][]byte{
		0:                          t.protectiveMBR(),
		sectorSize:                 first,
		2 * sectorSize:             entries,
		int64(backup) * sectorSize: entries,
		int64(last) * sectorSize:   second,
	}, nil
}
