package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/dactyl-os/dactyl/ipc/storage"
	"github.com/dactyl-os/dactyl/storaged/internal/gpt"
)

const mib = 1 << 20 / gpt.SectorSize // sectors

// layout is the image's, in MiB.
var layout = []struct {
	label string
	size  uint64
}{{"ESP", 64}, {"ROOT-A", 128}, {"ROOT-B", 128}, {"STATE", 64}, {"EPHEMERAL", 96}}

const imageMiB = 1 + 64 + 128 + 128 + 64 + 96 + 1

// world is a machine with one disk, and a kernel in so far as storaged sees it.
// Power cuts lose the kernel's part.
type world struct {
	sectors uint64 // 0: no disk
	disk    *memoryDisk
	content map[string]*filesystem // by label
	fail    map[string]error       // what a step, by its text, will end with

	table   []partition // as the kernel has it
	mounted map[volume]string
}

type filesystem struct {
	corrupt     bool
	hasErrors   bool
	ruined      bool
	builderUUID bool
	sectors     uint64
}

func newWorld() *world {
	return &world{disk: &memoryDisk{sectors: map[int64][]byte{}, left: -1}, fail: map[string]error{}, mounted: map[volume]string{}, content: map[string]*filesystem{}}
}

// flash writes a fresh image to a disk of so many MiB, over whatever is there.
func (w *world) flash(diskMiB uint64) {
	w.sectors = diskMiB * mib
	first := uint64(mib)
	entries := make([]byte, 128*128)
	for i, p := range layout {
		e := entries[128*i:]
		e[0], e[16] = byte(i+1), byte(i+1)
		binary.LittleEndian.PutUint64(e[32:], first)
		binary.LittleEndian.PutUint64(e[40:], first+p.size*mib-1)
		for j, u := range utf16.Encode([]rune(p.label)) {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
		w.content[p.label] = &filesystem{builderUUID: true, sectors: p.size * mib}
		first += p.size * mib
	}
	last := uint64(imageMiB*mib - 1)
	w.put(2, entries)
	w.put(1, header(entries, 1, last, 2, last-33))
	w.put(last-32, entries)
	w.put(last, header(entries, last, 1, last-32, last-33))
	mbr := make([]byte, 512)
	copy(mbr[446:], []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1})
	binary.LittleEndian.PutUint32(mbr[458:], uint32(last))
	mbr[510], mbr[511] = 0x55, 0xaa
	w.put(0, mbr)
}

func header(entries []byte, own, other, array, usable uint64) []byte {
	h, le := make([]byte, 512), binary.LittleEndian
	copy(h, "EFI PART\x00\x00\x01\x00\x5c")
	le.PutUint64(h[24:], own)
	le.PutUint64(h[32:], other)
	le.PutUint64(h[40:], 34)
	le.PutUint64(h[48:], usable)
	h[56] = 0xd1
	le.PutUint64(h[72:], array)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return h
}

func (w *world) put(sector uint64, b []byte) {
	if _, err := w.disk.WriteAt(b, int64(sector)*512); err != nil {
		panic(err)
	}
}

// boot is what the kernel does: with "gpt" on its command line it takes the
// backup if the primary is invalid.
func (w *world) boot() error {
	w.table, w.mounted = nil, map[volume]string{}
	if w.sectors == 0 {
		return nil
	}
	t, err := gpt.Read(w.disk, gpt.Primary, w.sectors)
	if err != nil {
		if t, err = gpt.Read(w.disk, gpt.Backup, w.sectors); err != nil {
			return errors.New("the kernel finds no root")
		}
	}
	for _, p := range t.Partitions() {
		w.table = append(w.table, partition{name: fmt.Sprint("sda", p.Number), number: p.Number, label: p.Name, first: p.First, len: p.Sectors()})
		if fs := w.content[p.Name]; fs != nil && fs.sectors > p.Sectors() {
			return fmt.Errorf("the filesystem %s is larger than its partition", p.Name)
		}
	}
	return nil
}

func (w *world) observe() (observation, error) {
	o := observation{mounted: map[volume]mounted{}}
	for v, on := range w.mounted {
		m := mounted{on: on}
		if fs := w.content[specOf(v).label]; on != inMemory && v != boot {
			m.builderUUID, m.blocks, m.blockSize = fs.builderUUID, fs.sectors/8, 4096
		}
		o.mounted[v] = m
	}
	if len(w.table) == 0 {
		return o, nil
	}
	o.disk = &disk{name: "sda", sectors: w.sectors, partitions: append([]partition(nil), w.table...)}
	for i, p := range o.disk.partitions {
		if fs := w.content[p.label]; fs != nil {
			o.disk.partitions[i].hasErrors = fs.hasErrors
		}
	}
	o.disk.primary, _ = gpt.Read(w.disk, gpt.Primary, w.sectors)
	o.disk.backup, _ = gpt.Read(w.disk, gpt.Backup, w.sectors)
	if m, err := gpt.ReadMBR(w.disk); err == nil {
		o.disk.mbr = mbrShort
		if m.Covers(w.sectors) {
			o.disk.mbr = mbrGood
		}
	}
	return o, nil
}

func (w *world) do(s step, o observation) error {
	if err := w.fail[s.String()]; err != nil {
		return err
	}
	switch s.verb {
	case writeTable, coverDisk:
		return writeTableTo(w.disk, s, o.disk)
	case growPartition:
		t, _, err := o.disk.wantedTable()
		for _, p := range t.Partitions() {
			w.table[p.Number-1].len = p.Sectors()
		}
		return err
	case mount:
		if w.content[specOf(s.volume).label].corrupt {
			return fmt.Errorf("%w: structure needs cleaning", errCorrupt)
		}
		w.mounted[s.volume] = s.device
	case repair:
		fs := w.content[specOf(s.volume).label]
		if fs.ruined {
			return fmt.Errorf("%w: errors remain", errBeyondRepair)
		}
		fs.corrupt, fs.hasErrors = false, false
	case mountMemory:
		w.mounted[s.volume] = inMemory
	case remake:
		*w.content["EPHEMERAL"] = filesystem{builderUUID: true, sectors: 96 * mib}
	case renewUUID:
		w.content[specOf(s.volume).label].builderUUID = false
	}
	return nil
}

func (w *world) grow(v volume, blocks uint64) error {
	fs := w.content[specOf(v).label]
	for _, p := range w.table {
		if p.label == specOf(v).label && blocks*8 <= p.len && blocks*8 > fs.sectors {
			fs.sectors = blocks * 8
			return nil
		}
	}
	return fmt.Errorf("cannot grow to %d blocks", blocks)
}

func (w *world) usage(volume, string) (usage, error)       { return usage{}, nil }
func (w *world) disks() ([]*storage.Disk, error)           { return nil, nil }
func (w *world) partitions() ([]*storage.Partition, error) { return nil, nil }

// String is what matters of the disk and the mounts.
func (w *world) String() string {
	var b strings.Builder
	if w.sectors > 0 {
		for _, c := range []gpt.Copy{gpt.Primary, gpt.Backup} {
			t, err := gpt.Read(w.disk, c, w.sectors)
			if err != nil {
				fmt.Fprintf(&b, "    %s table: invalid\n", c)
				continue
			}
			parts := t.Partitions()
			fmt.Fprintf(&b, "    %s table: EPHEMERAL has %d MiB\n", c, parts[len(parts)-1].Sectors()/mib)
		}
	}
	for _, spec := range volumes {
		on := w.mounted[spec.volume]
		switch fs := w.content[spec.label]; {
		case on == "":
			fmt.Fprintf(&b, "    %s: nothing\n", spec.target)
		case on == inMemory || spec.volume == boot:
			fmt.Fprintf(&b, "    %s: %s\n", spec.target, on)
		default:
			fmt.Fprintf(&b, "    %s: %s, ext4 of %d MiB\n", spec.target, on, fs.sectors/mib)
		}
	}
	return b.String()
}

// memoryDisk is a disk of which only what was written takes room. After left more
// sectors the power goes.
type memoryDisk struct {
	sectors map[int64][]byte
	left    int
}

var errPowerCut = errors.New("power cut")

func (d *memoryDisk) ReadAt(b []byte, at int64) (int, error) {
	for i := range len(b) / 512 {
		if s, ok := d.sectors[at/512+int64(i)]; ok {
			copy(b[512*i:], s)
		} else {
			clear(b[512*i : 512*i+512])
		}
	}
	return len(b), nil
}

func (d *memoryDisk) writeSector(n int64, b []byte) error {
	if d.left == 0 {
		return errPowerCut
	}
	d.left--
	d.sectors[n] = append([]byte(nil), b...)
	return nil
}

func (d *memoryDisk) WriteAt(b []byte, at int64) (int, error) {
	for i := range len(b) / 512 {
		if err := d.writeSector(at/512+int64(i), b[512*i:512*i+512]); err != nil {
			return 512 * i, err
		}
	}
	return len(b), nil
}

var _ io.WriterAt = (*memoryDisk)(nil)
