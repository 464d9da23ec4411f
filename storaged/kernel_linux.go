package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

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
	check *checker
}

func openMachine(ctx context.Context, log *slog.Logger) (*machine, error) {
	m := &machine{sys: "/sys", dev: "/dev", template: templatePath, check: newChecker(ctx, e2fsckPath, log)}
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
		if o.mounted[spec.volume].on == "" && spec.filesystem == "ext4" && o.disk != nil {
			m.readState(o.disk.byLabel(spec.label))
		}
	}
	return o, nil
}

// bootDisk is the disk with the root's partition, nil if there is none.
func (m *machine) bootDisk(all []block) (*disk, error) {
	name, err := m.bootDiskName(all)
	if err != nil || name == "" {
		return nil, err
	}
	d := &disk{name: name}
	for _, b := range all {
		switch {
		case b.name == d.name:
			d.sectors = m.sys.number(b, "size")
		case b.disk == d.name:
			d.partitions = append(d.partitions, partition{name: b.name, number: b.number, label: m.label(b), first: m.sys.number(b, "start"), len: m.sys.number(b, "size")})
		}
	}
	return d, m.readTables(d)
}

func (m *machine) bootDiskName(all []block) (string, error) {
	root, err := m.root(all)
	if err != nil || root == "" {
		return "", err
	}
	i := slices.IndexFunc(all, func(b block) bool { return b.name == root })
	if i < 0 {
		return "", fmt.Errorf("the root is on %s, which is not there", root)
	}
	return all[i].disk, nil
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
		switch {
		case b.dev != devString(st.Dev):
		case spec.filesystem == "ext4":
			return m.mountedExt4(b.name), nil
		default:
			return mounted{on: b.name}, nil
		}
	}
	return mounted{}, nil
}

// mountedExt4 reads what matters of a filesystem in use. If the disk has died under
// it, storaged still starts, to tell.
func (m *machine) mountedExt4(device string) mounted {
	f, err := m.open(device)
	if err != nil {
		return mounted{on: device}
	}
	defer f.Close()
	super, err := ext4.ReadSuperblock(f)
	if err != nil {
		return mounted{on: device}
	}
	return mounted{device, super.MadeByBuilder(), super.Blocks, super.BlockSize}
}

// readState reads the superblock, and nothing else, of a partition that is to be mounted.
// One that cannot be read is for mount to report.
func (m *machine) readState(p *partition) {
	if p == nil {
		return
	}
	f, err := m.open(p.name)
	if err != nil {
		return
	}
	defer f.Close()
	super, err := ext4.ReadSuperblock(f)
	p.hasErrors = err == nil && super.HasErrors
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
	case repair:
		return m.repair(s.device)
	case remake:
		return m.remake(s.device)
	case renewUUID:
		return m.renewUUID(s.volume)
	}
	panic("BUG: no step " + s.String())
}
