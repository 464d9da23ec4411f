package gpt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf16"
)

// SectorSize is the only size of a logical sector that is understood. The image
// has it, so a machine cannot have booted from a disk with another.
const SectorSize = 512

const (
	entryFirst = 32 // offsets in an entry, UEFI specification 2.10, table 5-7
	entryLast  = 40
	entryName  = 56
	minEntry   = 128
	arrayStart = 2 // sector of the primary copy's array
)

// Table is a partition table, whichever copy it came from.
type Table struct {
	disk        GUID
	first, last uint64 // usable sectors, inclusive
	backup      uint64 // sector of the backup copy's header
	array       uint64 // sector of the primary copy's array
	entrySize   uint32
	entries     []byte
}

// Partition is one used entry.
type Partition struct {
	Number      int // from 1
	Type, UUID  GUID
	First, Last uint64 // sectors, inclusive
	Name        string
}

// Sectors is the partition's length.
func (p Partition) Sectors() uint64 { return p.Last - p.First + 1 }

// Partitions lists the used entries by number.
func (t *Table) Partitions() []Partition {
	var list []Partition
	for i, e := range slices.Collect(slices.Chunk(t.entries, int(t.entrySize))) {
		p := Partition{Number: i + 1, First: le.Uint64(e[entryFirst:]), Last: le.Uint64(e[entryLast:])}
		copy(p.Type[:], e[0:])
		copy(p.UUID[:], e[16:])
		if p.Type == (GUID{}) {
			continue
		}
		p.Name = decodeName(e[entryName:minEntry])
		list = append(list, p)
	}
	return list
}

// Last is the last sector that a partition may use.
func (t *Table) Last() uint64 { return t.last }

// Equal reports whether both describe the same disk in the same way.
func (t *Table) Equal(o *Table) bool {
	return t.disk == o.disk && t.first == o.first && t.last == o.last && t.backup == o.backup &&
		t.array == o.array && t.entrySize == o.entrySize && bytes.Equal(t.entries, o.entries)
}

// Fit returns the table as it should be on a disk of so many sectors: its backup
// at the very end and all space before it usable. It is an error if a partition
// would not fit.
func (t *Table) Fit(sectors uint64) (*Table, error) {
	n := *t
	if sectors < arrayStart+2*t.arraySectors()+2 || t.first < arrayStart+t.arraySectors() {
		return nil, fmt.Errorf("a disk of %d sectors has no room for the table", sectors)
	}
	n.backup = sectors - 1
	n.last = n.backup - t.arraySectors() - 1
	n.array = arrayStart
	for _, p := range t.Partitions() {
		if p.Last > n.last {
			return nil, fmt.Errorf("partition %d (%s) ends at sector %d, the disk's last usable one is %d", p.Number, p.Name, p.Last, n.last)
		}
	}
	return &n, nil
}

// Extend returns the table with the partition number ending at sector last.
func (t *Table) Extend(number int, last uint64) *Table {
	n := *t
	n.entries = bytes.Clone(t.entries)
	le.PutUint64(n.entries[(number-1)*int(t.entrySize)+entryLast:], last)
	return &n
}

func (t *Table) arraySectors() uint64 {
	return (uint64(len(t.entries)) + SectorSize - 1) / SectorSize
}

// check finds what the checksums cannot: entries that point outside or overlap.
func (t *Table) check() error {
	list := t.Partitions()
	slices.SortFunc(list, func(a, b Partition) int { return cmpUint64(a.First, b.First) })
	for i, p := range list {
		switch {
		case p.First < t.first || p.Last > t.last || p.First > p.Last:
			return fmt.Errorf("partition %d has sectors %d to %d, usable are %d to %d", p.Number, p.First, p.Last, t.first, t.last)
		case i > 0 && list[i-1].Last >= p.First:
			return fmt.Errorf("partitions %d and %d overlap", list[i-1].Number, p.Number)
		}
	}
	return nil
}

func cmpUint64(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func decodeName(b []byte) string {
	var units []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u := le.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

var le = binary.LittleEndian
