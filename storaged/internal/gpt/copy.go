package gpt

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Copy says which of the two.
type Copy int

const (
	Primary Copy = iota // at the disk's start
	Backup              // at its very end
)

func (c Copy) String() string { return [...]string{"primary", "backup"}[c] }

// Other is the copy that c is not.
func (c Copy) Other() Copy { return 1 - c }

const (
	signature = "EFI PART"
	// headerSize is what this package writes; a valid header may be longer, with
	// fields that no specification has given a meaning yet.
	headerSize = 92
	revision   = 0x00010000
	// maxArray bounds what is read for a broken header: usual are 16 KiB.
	maxArray = 1 << 20
)

// Read reads one copy from a disk of so many sectors and checks it. The error
// says what is wrong with it, or that the disk cannot be read.
func Read(disk io.ReaderAt, c Copy, sectors uint64) (*Table, error) {
	if sectors < 3 {
		return nil, errors.New("no room for a table")
	}
	at := uint64(1)
	if c == Backup {
		at = sectors - 1
	}
	h := make([]byte, SectorSize)
	if _, err := disk.ReadAt(h, int64(at)*SectorSize); err != nil {
		return nil, fmt.Errorf("read %s header: %w", c, err)
	}
	t, array, err := parseHeader(h, at, c, sectors)
	if err != nil {
		return nil, fmt.Errorf("%s header: %w", c, err)
	}
	if _, err := disk.ReadAt(t.entries, int64(array)*SectorSize); err != nil {
		return nil, fmt.Errorf("read %s entries: %w", c, err)
	}
	if crc32.ChecksumIEEE(t.entries) != le.Uint32(h[88:]) {
		return nil, fmt.Errorf("%s entries: wrong checksum", c)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("%s entries: %w", c, err)
	}
	return t, nil
}

// parseHeader returns the table without its entries' content, and the sector
// where that is.
func parseHeader(h []byte, at uint64, c Copy, sectors uint64) (*Table, uint64, error) {
	if string(h[:8]) != signature {
		return nil, 0, errors.New("no signature")
	}
	size := le.Uint32(h[12:])
	if size < headerSize || size > SectorSize {
		return nil, 0, fmt.Errorf("says it has %d bytes", size)
	}
	sum := le.Uint32(h[16:])
	clean := append([]byte(nil), h[:size]...)
	clear(clean[16:20])
	if crc32.ChecksumIEEE(clean) != sum {
		return nil, 0, errors.New("wrong checksum")
	}
	t := &Table{
		first: le.Uint64(h[40:]), last: le.Uint64(h[48:]),
		backup: le.Uint64(h[32:]), array: le.Uint64(h[72:]), entrySize: le.Uint32(h[84:]),
	}
	copy(t.disk[:], h[56:])
	array, bytes := t.array, uint64(le.Uint32(h[80:]))*uint64(t.entrySize)
	if c == Backup {
		t.backup, t.array = at, arrayStart
	}
	switch {
	case le.Uint64(h[24:]) != at:
		return nil, 0, fmt.Errorf("at sector %d says it is at %d", at, le.Uint64(h[24:]))
	case t.entrySize < minEntry || t.entrySize%minEntry != 0 || bytes == 0 || bytes > maxArray:
		return nil, 0, fmt.Errorf("%d bytes of entries with %d each", bytes, t.entrySize)
	case t.first > t.last || t.last >= sectors || array >= sectors:
		return nil, 0, fmt.Errorf("sectors %d to %d on a disk of %d", t.first, t.last, sectors)
	}
	t.entries = make([]byte, bytes)
	return t, array, nil
}

// Write writes one copy; it is invalid until Write returns, and may be after a
// power cut until the disk is synced as well.
func (t *Table) Write(disk io.WriterAt, c Copy) error {
	at, array := uint64(1), t.array
	if c == Backup {
		at, array = t.backup, t.backup-t.arraySectors()
	}
	if _, err := disk.WriteAt(t.entries, int64(array)*SectorSize); err != nil {
		return fmt.Errorf("write %s entries: %w", c, err)
	}
	if _, err := disk.WriteAt(t.header(at, array, c), int64(at)*SectorSize); err != nil {
		return fmt.Errorf("write %s header: %w", c, err)
	}
	return nil
}

func (t *Table) header(at, array uint64, c Copy) []byte {
	other := t.backup
	if c == Backup {
		other = 1
	}
	h := make([]byte, SectorSize)
	copy(h, signature)
	le.PutUint32(h[8:], revision)
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], at)
	le.PutUint64(h[32:], other)
	le.PutUint64(h[40:], t.first)
	le.PutUint64(h[48:], t.last)
	copy(h[56:], t.disk[:])
	le.PutUint64(h[72:], array)
	le.PutUint32(h[80:], uint32(len(t.entries))/t.entrySize)
	le.PutUint32(h[84:], t.entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(t.entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
	return h
}
