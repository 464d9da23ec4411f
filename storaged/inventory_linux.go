package main

import (
	"fmt"
	"strconv"

	"github.com/dactyl-os/dactyl/ipc/storage"
	"github.com/dactyl-os/dactyl/storaged/internal/gpt"
	"golang.org/x/sys/unix"
)

// usage is how full a volume is.
type usage struct {
	source     string // device of the root; others are known from the observation
	filesystem string // of the root
	size, used uint64 // bytes
	readOnly   bool
	errors     uint64 // that ext4 has found since the filesystem was made
}

func (m *machine) usage(v volume, on string) (usage, error) {
	if v == root {
		return m.rootUsage()
	}
	u, err := statfs(m.target(specOf(v)))
	u.errors, _ = strconv.ParseUint(m.sys.read("fs/ext4/"+on+"/errors_count"), 10, 64) // only ext4 has one
	return u, err
}

func (m *machine) rootUsage() (usage, error) {
	u, err := statfs(m.template)
	if err != nil {
		return u, err
	}
	all, err := m.sys.blocks()
	for _, b := range all {
		if b.dev == devString(m.rootDev) {
			u.source = m.node(b.name)
		}
	}
	return u, err
}

// filesystems names what may hold the root.
var filesystems = map[int64]string{unix.SQUASHFS_MAGIC: "squashfs", unix.TMPFS_MAGIC: "tmpfs", unix.EXT4_SUPER_MAGIC: "ext4"}

func statfs(name string) (usage, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(name, &fs); err != nil {
		return usage{}, fmt.Errorf("statfs %s: %w", name, err)
	}
	unit := uint64(fs.Frsize)
	return usage{
		filesystem: filesystems[fs.Type],
		size:       fs.Blocks * unit, used: (fs.Blocks - fs.Bfree) * unit,
		readOnly: fs.Flags&unix.ST_RDONLY != 0,
	}, nil
}

// disks lists what has a driver for hardware behind it, and not devices made of
// other devices, memory or files.
func (m *machine) disks() ([]*storage.Disk, error) {
	all, err := m.sys.blocks()
	if err != nil {
		return nil, err
	}
	system, err := m.bootDiskName(all)
	if err != nil {
		return nil, err
	}
	var list []*storage.Disk
	for _, b := range all {
		if !m.isHardware(b) {
			continue
		}
		list = append(list, &storage.Disk{
			Name: b.name, Model: m.sys.model(b), Serial: m.sys.serial(b),
			SizeBytes: m.sys.number(b, "size") * gpt.SectorSize,
			Transport: transport(b.path),
			Removable: m.sys.number(b, "removable") == 1, ReadOnly: m.sys.number(b, "ro") == 1,
			System: system == b.name,
		})
	}
	return list, nil
}

func (m *machine) isHardware(b block) bool {
	return b.disk == "" && m.sys.exists(b, "device") && m.sys.number(b, "size") > 0
}

func (m *machine) partitions() ([]*storage.Partition, error) {
	all, err := m.sys.blocks()
	if err != nil {
		return nil, err
	}
	var list []*storage.Partition
	tables := map[string]map[int]gpt.Partition{}
	for _, b := range all {
		if m.isHardware(b) {
			tables[b.name] = m.table(b)
		}
		table, listed := tables[b.disk]
		if !listed {
			continue
		}
		p := &storage.Partition{
			Name: b.name, Disk: b.disk, Label: m.label(b),
			StartBytes: m.sys.number(b, "start") * gpt.SectorSize, SizeBytes: m.sys.number(b, "size") * gpt.SectorSize,
		}
		if e, ok := table[b.number]; ok {
			p.Type, p.Uuid = e.Type.String(), e.UUID.String()
		}
		list = append(list, p)
	}
	return list, nil
}

// table returns a disk's entries by number: none of a disk without a GPT, or of one
// that was plugged in after storaged's own /dev was made.
func (m *machine) table(b block) map[int]gpt.Partition {
	f, err := m.open(b.name)
	if err != nil {
		return nil
	}
	defer f.Close()
	sectors := m.sys.number(b, "size")
	t, err := gpt.Read(f, gpt.Primary, sectors)
	if err != nil {
		if t, err = gpt.Read(f, gpt.Backup, sectors); err != nil {
			return nil
		}
	}
	entries := map[int]gpt.Partition{}
	for _, p := range t.Partitions() {
		entries[p.Number] = p
	}
	return entries
}
