package main

import (
	"errors"
	"fmt"

	"github.com/dactyl-os/dactyl/storaged/internal/gpt"
)

// inMemory is what observation.mounted names a tmpfs.
const inMemory = "memory"

// alignSectors is 1 MiB: a multiple of every flash's erase block in use, and what
// the image's own partitions are aligned to.
const alignSectors = 1 << 20 / gpt.SectorSize

// observation is what storaged sees of the machine.
type observation struct {
	disk    *disk // that the system booted from; nil if its root is on none
	mounted map[volume]mounted
}

type mounted struct {
	on          string // partition, or inMemory
	builderUUID bool   // ext4 with the UUID that every flashed image has
	blocks      uint64 // ext4's size
	blockSize   uint64
}

type disk struct {
	name            string
	sectors         uint64
	primary, backup *gpt.Table // nil where invalid
	mbr             mbr
	partitions      []partition
}

// partition is one as the kernel sees it.
type partition struct {
	name       string // sda5
	number     int
	label      string
	first, len uint64 // sectors
}

// mbr says what the first sector is.
type mbr int

const (
	mbrForeign mbr = iota // or unreadable: left alone
	mbrShort              // protective, but for another size of the disk
	mbrGood
)

// step is one change of the machine. It is comparable: engine remembers by its
// value what became of it.
type step struct {
	verb   verb
	copy   gpt.Copy // of writeTable
	volume volume
	device string // disk or partition
	again  bool   // of mount: after a remake
}

type verb string

const (
	writeTable    verb = "write table"
	coverDisk     verb = "cover disk in MBR"
	growPartition verb = "grow partition"
	mount         verb = "mount"
	mountMemory   verb = "mount memory"
	remake        verb = "remake"
	renewUUID     verb = "renew UUID"
)

func (s step) String() string {
	switch s.verb {
	case writeTable:
		return fmt.Sprintf("write %s table of %s", s.copy, s.device)
	case coverDisk, growPartition, remake:
		return fmt.Sprintf("%s %s", s.verb, s.device)
	case mount:
		return fmt.Sprintf("mount %s on %s", s.device, specOf(s.volume).target)
	case mountMemory:
		return fmt.Sprintf("mount memory on %s", specOf(s.volume).target)
	}
	return fmt.Sprintf("%s of %s", s.verb, s.volume)
}

// errCorrupt marks an error of mount that the content of the partition caused, and
// that trying again, or another cable, will not cure.
var errCorrupt = errors.New("corrupt")

// engine decides what is done to the boot disk. Every decision follows from what is
// on the disk and in the kernel at that moment, and each step leaves a disk from
// which the next boot goes on: a power cut needs no case of its own. All it
// remembers is what it has tried, so that nothing is tried twice.
type engine struct {
	tried map[step]error
}

func newEngine() *engine { return &engine{tried: map[step]error{}} }

// done tells the engine what became of a step.
func (e *engine) done(s step, err error) { e.tried[s] = err }

// next returns the step to take, or false if nothing is left to do. The caller
// takes it, tells done, observes anew and asks again.
func (e *engine) next(o observation) (step, bool) {
	for _, s := range append(tableSteps(o.disk), e.volumeSteps(o)...) {
		if _, tried := e.tried[s]; !tried {
			return s, true
		}
	}
	return step{}, false
}

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

func (e *engine) volumeSteps(o observation) []step {
	var list []step
	for _, spec := range volumes {
		switch m := o.mounted[spec.volume]; {
		case m.on == "":
			list = append(list, e.mountSteps(spec, o.disk)...)
		case m.builderUUID:
			list = append(list, step{verb: renewUUID, volume: spec.volume})
		}
	}
	return list
}

// mountSteps returns everything that may be tried for a volume that is not
// mounted, as far as is known now; what has been tried before is skipped by next.
func (e *engine) mountSteps(spec volumeSpec, d *disk) []step {
	memory := step{verb: mountMemory, volume: spec.volume}
	if d == nil {
		if spec.memory == nil {
			return nil
		}
		return []step{memory}
	}
	p := d.byLabel(spec.label)
	if spec.volume != ephemeral {
		if p == nil {
			return nil
		}
		return []step{{verb: mount, volume: spec.volume, device: p.name}}
	}
	// EPHEMERAL may be lost at any time, so the machine goes on without it.
	if p == nil {
		return []step{memory}
	}
	first := step{verb: mount, volume: ephemeral, device: p.name}
	again, made := first, step{verb: remake, device: p.name}
	again.again = true
	err, tried := e.tried[first]
	switch madeErr, wasMade := e.tried[made]; {
	case !tried:
		return []step{first}
	case errors.Is(err, errCorrupt) && (!wasMade || madeErr == nil):
		if _, tried := e.tried[again]; !tried {
			return []step{made, again}
		}
	}
	return []step{memory}
}
