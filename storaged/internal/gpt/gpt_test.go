package gpt

import (
	"bytes"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	small = 64 << 20 / SectorSize
	large = 256 << 20 / SectorSize
)

// sgdisk makes and checks tables that this package did not write.
func sgdisk(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("sgdisk")
	if err != nil {
		if path = "/usr/sbin/sgdisk"; !exists(path) {
			t.Skip("sgdisk is not installed (package gdisk)")
		}
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("sgdisk %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// flashed is a small image by sgdisk on a larger disk.
func flashed(t *testing.T) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	resize(t, f, small)
	sgdisk(t, "-n", "1:2048:+8M", "-c", "1:ESP", "-t", "1:ef00", "-A", "1:set:2",
		"-n", "2:0:+8M", "-c", "2:EPHEMERAL ü", "-u", "2:4f68bce3-e8cd-4db1-96e7-fbcaf984b709", name)
	resize(t, f, large)
	return f
}

func resize(t *testing.T, f *os.File, sectors int64) {
	t.Helper()
	if err := f.Truncate(sectors * SectorSize); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, f *os.File, c Copy, sectors uint64) *Table {
	t.Helper()
	table, err := Read(f, c, sectors)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// A repaired and extended table satisfies sgdisk, and what it knew of the
// partitions is as before.
func TestOthersAgree(t *testing.T) {
	f := flashed(t)
	if _, err := Read(f, Backup, large); err == nil {
		t.Fatal("a backup was found where none can be")
	}
	before := read(t, f, Primary, large)
	fit, err := before.Fit(large)
	if err != nil {
		t.Fatal(err)
	}
	want := fit.Extend(2, fit.Last())
	for _, c := range []Copy{Backup, Primary} {
		if err := want.Write(f, c); err != nil {
			t.Fatal(err)
		}
		if got := read(t, f, c, large); !got.Equal(want) {
			t.Errorf("%s copy reads back as %+v", c, got)
		}
	}
	mbr, err := ReadMBR(f)
	if err != nil {
		t.Fatal(err)
	}
	if mbr.Covers(large) {
		t.Error("the MBR of a small image covers a large disk")
	}
	if err := mbr.Cover(f, large); err != nil {
		t.Fatal(err)
	}
	for _, ask := range []struct{ want, flag string }{
		{"No problems found", "-v"},
		{"Partition name: 'ESP'", "-i1"},
		{"Attribute flags: 0000000000000004", "-i1"},
		{"Partition name: 'EPHEMERAL ü'", "-i2"},
		{"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "-i2"},
		{"Last sector: 524254", "-i2"},
	} {
		if out := sgdisk(t, ask.flag, f.Name()); !strings.Contains(out, ask.want) {
			t.Errorf("sgdisk %s lacks %q:\n%s", ask.flag, ask.want, out)
		}
	}
	if p := want.Partitions()[1]; p.UUID.String() != "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" || p.Name != "EPHEMERAL ü" {
		t.Errorf("partition 2 is %+v", p)
	}
}

// Both copies that sgdisk writes are the same table.
func TestCopiesAreEqual(t *testing.T) {
	f := flashed(t)
	resize(t, f, small)
	if !read(t, f, Primary, small).Equal(read(t, f, Backup, small)) {
		t.Error("the two copies differ")
	}
}

// One wrong byte makes a copy invalid: each of the header, some of the entries.
func TestEveryByteCounts(t *testing.T) {
	f := flashed(t)
	disk := make([]byte, 34*SectorSize)
	if _, err := f.ReadAt(disk, 0); err != nil {
		t.Fatal(err)
	}
	var offsets []int
	for at := SectorSize; at < SectorSize+headerSize; at++ {
		offsets = append(offsets, at)
	}
	for at := 2 * SectorSize; at < len(disk); at += 101 {
		offsets = append(offsets, at)
	}
	for _, at := range offsets {
		disk[at] ^= 0x40
		if _, err := Read(bytes.NewReader(disk), Primary, large); err == nil {
			t.Fatalf("byte %d may be anything", at)
		}
		disk[at] ^= 0x40
	}
}

func TestFitRefuses(t *testing.T) {
	table := read(t, flashed(t), Primary, large)
	for _, sectors := range []uint64{0, 10, 2048, 20000} {
		if got, err := table.Fit(sectors); err == nil {
			t.Errorf("it fits on %d sectors: %+v", sectors, got)
		}
	}
}

// An MBR that somebody else uses is left alone.
func TestForeignMBR(t *testing.T) {
	good := make([]byte, SectorSize)
	if _, err := flashed(t).ReadAt(good, 0); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(b []byte){
		"no magic": func(b []byte) { b[mbrMagic] = 0 },
		"dos":      func(b []byte) { b[mbrEntry+4] = 0x83 },
		"hybrid":   func(b []byte) { b[mbrEntry+16+4] = 0x0c },
		"empty":    func(b []byte) { clear(b) },
	} {
		b := bytes.Clone(good)
		spoil(b)
		if _, err := ReadMBR(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: taken for a protective MBR", name)
		}
	}
}

// A disk may hold anything, under checksums that are right.
func FuzzRead(f *testing.F) {
	f.Add(header(1, 34, 2000, 2, 4, 128), bytes.Repeat([]byte{1}, 512))
	f.Add(header(1, 0, 1<<63, 1<<62, 1<<31, 1<<31), []byte{})
	f.Add(header(1, 34, 2000, 2, 1, 1<<20), []byte{1})
	f.Fuzz(func(t *testing.T, h, entries []byte) {
		disk := make([]byte, 2048*SectorSize)
		copy(disk[SectorSize:], h[:min(len(h), SectorSize)])
		copy(disk[2*SectorSize:], entries)
		table, err := Read(bytes.NewReader(seal(disk)), Primary, 2048)
		if err != nil {
			return
		}
		for _, p := range table.Partitions() {
			if p.Last >= 2048 || p.First > p.Last {
				t.Errorf("partition %+v", p)
			}
			if fit, err := table.Fit(4096); err == nil {
				fit.Extend(p.Number, fit.Last())
			}
		}
	})
}

func header(own, first, last, array uint64, count, size uint32) []byte {
	h := make([]byte, SectorSize)
	copy(h, signature)
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], own)
	le.PutUint64(h[40:], first)
	le.PutUint64(h[48:], last)
	le.PutUint64(h[72:], array)
	le.PutUint32(h[80:], count)
	le.PutUint32(h[84:], size)
	return h
}

// seal makes the primary's checksums right.
func seal(disk []byte) []byte {
	h := disk[SectorSize : 2*SectorSize]
	from, length := le.Uint64(h[72:]), uint64(le.Uint32(h[80:]))*uint64(le.Uint32(h[84:]))
	if from < 2048 && length <= uint64(len(disk))-from*SectorSize {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(disk[from*SectorSize:][:length]))
	}
	size := min(le.Uint32(h[12:]), SectorSize)
	clear(h[16:20])
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:size]))
	return disk
}
