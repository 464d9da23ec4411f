package main

import (
	"fmt"

	"github.com/dactyl-os/dactyl/storaged/internal/gpt"
)

// alignSectors is 1 MiB: a multiple of every flash's erase block in use, and what
// the image's own partitions are aligned to.
const alignSectors = 1 << 20 / gpt.SectorSize

// tableSteps wants at most one thing: each is the ground on which the next stands.
// The copy that the machine runs on is written last, so that one is always valid;
// the kernel learns of a larger partition, and the filesystem of room to grow into,
// only after the table says so on the disk.
func tableSteps(d *disk) []step {
	if d == nil {
		return nil
	}
	want, base, err := d.wantedTable()
	if err != nil {
		return nil
	}
	for _, c := range []gpt.Copy{base.Other(), base} {
		if have := d.copyOf(c); have == nil || !have.Equal(want) {
			return []step{{verb: writeTable, copy: c, device: d.name}}
		}
	}
	if d.mbr == mbrShort {
		return []step{{verb: coverDisk, device: d.name}}
	}
	for _, p := range want.Partitions() {
		if have := d.byNumber(p.Number); have != nil && have.len < p.Sectors() {
			return []step{{verb: growPartition, device: have.name}}
		}
	}
	return nil
}

func (d *disk) copyOf(c gpt.Copy) *gpt.Table {
	if c == gpt.Primary {
		return d.primary
	}
	return d.backup
}

// wantedTable is what both copies should be, and the copy that is the best now. An
// error says why the table is left alone.
func (d *disk) wantedTable() (*gpt.Table, gpt.Copy, error) {
	base := gpt.Primary
	if d.primary == nil {
		base = gpt.Backup
	}
	have := d.copyOf(base)
	if have == nil {
		return nil, base, fmt.Errorf("%s has no valid partition table", d.name)
	}
	if err := d.matches(have); err != nil {
		return nil, base, err
	}
	want, err := have.Fit(d.sectors)
	if err != nil {
		return nil, base, fmt.Errorf("partition table of %s: %w", d.name, err)
	}
	return extendEphemeral(want), base, nil
}

// matches refuses a table that the kernel does not run on, such as one that another
// system left at the end of a disk.
func (d *disk) matches(t *gpt.Table) error {
	inTable := map[int]gpt.Partition{}
	for _, p := range t.Partitions() {
		inTable[p.Number] = p
	}
	for _, p := range d.partitions {
		q, ok := inTable[p.number]
		mayGrow := p.label == specOf(ephemeral).label && p.len < q.Sectors()
		if !ok || q.First != p.first || q.Sectors() != p.len && !mayGrow {
			return fmt.Errorf("partition table of %s: %s is not in it as the kernel sees it", d.name, p.name)
		}
	}
	return nil
}

// extendEphemeral lets EPHEMERAL end where the disk does, if it is the last.
func extendEphemeral(t *gpt.Table) *gpt.Table {
	var last gpt.Partition
	for _, p := range t.Partitions() {
		if p.First >= last.First {
			last = p
		}
	}
	end := (t.Last()+1)/alignSectors*alignSectors - 1
	if last.Name != specOf(ephemeral).label || end <= last.Last {
		return t
	}
	return t.Extend(last.Number, end)
}

func (d *disk) byNumber(n int) *partition {
	for i := range d.partitions {
		if d.partitions[i].number == n {
			return &d.partitions[i]
		}
	}
	return nil
}

func (d *disk) byLabel(label string) *partition {
	for i := range d.partitions {
		if d.partitions[i].label == label {
			return &d.partitions[i]
		}
	}
	return nil
}
