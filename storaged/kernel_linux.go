package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/dactyl-os/dactyl/storaged/internal/ext4"
	"github.com/dactyl-os/dactyl/storaged/internal/gpt"
	"golang.org/x/sys/unix"
)

// templatePath is the empty ext4 that EPHEMERAL is made from anew, with the same
// bytes as a fresh image's own. It also is a file of the image, and so tells on
// which device the root is.
const templatePath = "/lib/dactyl/ephemeral.ext4"

// machine is the kernel of this machine. Its paths are fields for the sake of tests.
type machine struct {
	sys      sysfs
	dev      string // directory with the device nodes
	prefix   string // before each volume's target
	template string
	rootDev  uint64 // of the file system that holds template
	// root names the partition that the system runs from; "" is none.
	root func(all []block) (string, error)
	// label names a partition as the kernel read it from the GPT.
	label func(b block) string
	dirs  map[volume]*os.File // of mounted ext4s: Landlock will not let them be opened for an ioctl later
}

func openMachine() (*machine, error) {
	m := &machine{sys: "/sys", dev: "/dev", template: templatePath, dirs: map[volume]*os.File{}}
	var st unix.Stat_t
	if err := unix.Stat(m.template, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", m.template, err)
	}
	m.rootDev = st.Dev
	m.root = func(all []block) (string, error) { return m.sys.verityRoot(all, devString(m.rootDev)) }
	m.label = m.sys.label
	return m, nil
}

func devString(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

func (m *machine) node(name string) string            { return filepath.Join(m.dev, name) }
func (m *machine) target(spec volumeSpec) string      { return m.prefix + spec.target }
func (m *machine) open(name string) (*os.File, error) { return os.Open(m.node(name)) }

func (m *machine) observe() (observation, error) {
	o := observation{mounted: map[volume]mounted{}}
	all, err := m.sys.blocks()
	if err != nil {
		return o, err
	}
	if o.disk, err = m.bootDisk(all); err != nil {
		return o, err
	}
	for _, spec := range volumes {
		if o.mounted[spec.volume], err = m.mountedOn(spec, all); err != nil {
			return o, err
		}
	}
	return o, nil
}

// bootDisk is the disk with the root's partition, nil if there is none.
func (m *machine) bootDisk(all []block) (*disk, error) {
	root, err := m.root(all)
	if err != nil || root == "" {
		return nil, err
	}
	d := &disk{}
	for _, b := range all {
		if b.name == root {
			d.name = b.disk
		}
	}
	if d.name == "" {
		return nil, nil
	}
	for _, b := range all {
		switch {
		case b.name == d.name:
			d.sectors = m.sys.number(b, "size")
		case b.disk == d.name:
			d.partitions = append(d.partitions, partition{b.name, b.number, m.label(b), m.sys.number(b, "start"), m.sys.number(b, "size")})
		}
	}
	return d, m.readTables(d)
}

func (m *machine) readTables(d *disk) error {
	f, err := m.open(d.name)
	if err != nil {
		return err
	}
	defer f.Close()
	// Why a copy is invalid does not matter: it will be written anew, or the
	// engine reports that none is valid.
	d.primary, _ = gpt.Read(f, gpt.Primary, d.sectors)
	d.backup, _ = gpt.Read(f, gpt.Backup, d.sectors)
	b, err := gpt.ReadMBR(f)
	switch {
	case err != nil:
		d.mbr = mbrForeign
	case b.Covers(d.sectors):
		d.mbr = mbrGood
	default:
		d.mbr = mbrShort
	}
	return nil
}

// mountedOn says what is mounted for a volume, by the device of what its target
// shows: a storaged that was started anew finds there what the one before mounted.
func (m *machine) mountedOn(spec volumeSpec, all []block) (mounted, error) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Stat(m.target(spec), &st), unix.Statfs(m.target(spec), &fs)); err != nil {
		return mounted{}, fmt.Errorf("stat %s: %w", m.target(spec), err)
	}
	if st.Dev == m.rootDev {
		return mounted{}, nil
	}
	if fs.Type == unix.TMPFS_MAGIC {
		return mounted{on: inMemory}, nil
	}
	for _, b := range all {
		if b.dev == devString(st.Dev) && spec.filesystem == "ext4" {
			return m.mountedExt4(spec, b.name)
		} else if b.dev == devString(st.Dev) {
			return mounted{on: b.name}, nil
		}
	}
	return mounted{}, nil
}

func (m *machine) mountedExt4(spec volumeSpec, device string) (mounted, error) {
	f, err := m.open(device)
	if err != nil {
		return mounted{}, err
	}
	defer f.Close()
	super, err := ext4.ReadSuperblock(f)
	if err != nil {
		return mounted{}, fmt.Errorf("%s: %w", device, err)
	}
	if m.dirs[spec.volume] == nil {
		if m.dirs[spec.volume], err = os.Open(m.target(spec)); err != nil {
			return mounted{}, err
		}
	}
	return mounted{device, super.MadeByBuilder(), super.Blocks, super.BlockSize}, nil
}

func (m *machine) do(s step, o observation) error {
	switch s.verb {
	case writeTable, coverDisk:
		return m.writeTable(s, o.disk)
	case growPartition:
		return m.growPartition(s, o.disk)
	case mount:
		return m.mount(specOf(s.volume), s.device)
	case mountMemory:
		return mountTmpfs(specOf(s.volume), m.target(specOf(s.volume)))
	case remake:
		return m.remake(s.device)
	case renewUUID:
		return m.renewUUID(s.volume)
	}
	panic("BUG: no step " + s.String())
}

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

func writeTableTo(f interface {
	ReadAt([]byte, int64) (int, error)
	WriteAt([]byte, int64) (int, error)
}, s step, d *disk) error {
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
	return ioctl(m.dirs[v], ext4SetUUID, unsafe.Pointer(&arg))
}

func (m *machine) grow(v volume, blocks uint64) error {
	err := ioctl(m.dirs[v], ext4ResizeFS, unsafe.Pointer(&blocks))
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	return err
}

func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg))
	if e != 0 {
		return fmt.Errorf("ioctl %#x of %s: %w", request, f.Name(), e)
	}
	return nil
}
