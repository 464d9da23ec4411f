package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"github.com/dactyl-os/dactyl/storaged/internal/ext4"
	"github.com/dactyl-os/dactyl/storaged/internal/gpt"
	"golang.org/x/sys/unix"
)

func (m *machine) writeTable(s step, d *disk) error {
	f, err := os.OpenFile(m.node(d.name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := writeTableTo(f, s, d); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f.Sync()
}

// readerWriterAt is a disk: a file, and in tests memory.
type readerWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

func writeTableTo(f readerWriterAt, s step, d *disk) error {
	if s.verb == coverDisk {
		b, err := gpt.ReadMBR(f)
		if err != nil {
			return err
		}
		return b.Cover(f, d.sectors)
	}
	want, _, err := d.wantedTable()
	if err != nil {
		return err
	}
	return want.Write(f, s.copy)
}

// blkpgPartition is struct blkpg_partition of linux/blkpg.h.
type blkpgPartition struct {
	start, length int64 // bytes
	number        int32
	_             [128]byte // names, unused
}

// growPartition tells the kernel what the table says; BLKRRPART, which reads it
// anew, is refused while any partition is in use.
func (m *machine) growPartition(s step, d *disk) error {
	want, _, err := d.wantedTable()
	if err != nil {
		return err
	}
	f, err := m.open(d.name)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range want.Partitions() {
		if have := d.byNumber(p.Number); have == nil || have.name != s.device {
			continue
		}
		arg := blkpgPartition{start: int64(p.First * gpt.SectorSize), length: int64(p.Sectors() * gpt.SectorSize), number: int32(p.Number)}
		call := unix.BlkpgIoctlArg{Op: unix.BLKPG_RESIZE_PARTITION, Datalen: int32(unsafe.Sizeof(arg)), Data: (*byte)(unsafe.Pointer(&arg))}
		return ioctl(f, unix.BLKPG, unsafe.Pointer(&call))
	}
	panic("BUG: no partition " + s.device)
}

func (m *machine) remake(device string) error {
	from, err := os.Open(m.template)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(m.node(device), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	return ext4.Copy(to, from)
}

// ioctls of ext4, from linux/ext4.h.
const (
	ext4ResizeFS = 0x40086610
	ext4SetUUID  = 0x4008662c
)

// fsuuid is struct fsuuid of linux/ext4.h.
type fsuuid struct {
	length, flags uint32
	uuid          [16]byte
}

func (m *machine) renewUUID(v volume) error {
	arg := fsuuid{length: 16}
	rand.Read(arg.uuid[:])
	arg.uuid[6] = arg.uuid[6]&0x0f | 0x40 // version 4: random
	arg.uuid[8] = arg.uuid[8]&0x3f | 0x80
	return m.ioctlVolume(v, ext4SetUUID, unsafe.Pointer(&arg))
}

func (m *machine) grow(v volume, blocks uint64) error {
	err := m.ioctlVolume(v, ext4ResizeFS, unsafe.Pointer(&blocks))
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	return err
}

// ioctlVolume asks something of a mounted filesystem, by its root.
func (m *machine) ioctlVolume(v volume, request uint, arg unsafe.Pointer) error {
	f, err := os.Open(m.target(specOf(v)))
	if err != nil {
		return err
	}
	defer f.Close()
	return ioctl(f, request, arg)
}

func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg))
	if e != 0 {
		return fmt.Errorf("ioctl %#x of %s: %w", request, f.Name(), e)
	}
	return nil
}
