package main

import (
	"errors"
	"fmt"

	"github.com/dactyl-os/dactyl/storaged/internal/gpt"
)

// inMemory is what observation.mounted names a tmpfs.
const inMemory = "memory"

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
	hasErrors  bool   // an ext4 that is not mounted and has its error flag set
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
	after  verb   // of mount: repair or remake, if that came before
}

type verb string

const (
	writeTable    verb = "write table"
	coverDisk     verb = "cover disk in MBR"
	growPartition verb = "grow partition"
	mount         verb = "mount"
	mountMemory   verb = "mount memory"
	repair        verb = "repair"
	remake        verb = "remake"
	renewUUID     verb = "renew UUID"
)

func (s step) String() string {
	switch s.verb {
	case writeTable:
		return fmt.Sprintf("write %s table of %s", s.copy, s.device)
	case coverDisk, growPartition, repair, remake:
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

// errBeyondRepair marks an error of repair: e2fsck has done what it can and errors remain.
// Any other error of repair says nothing about the content.
var errBeyondRepair = errors.New("beyond repair")

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

// mountSteps returns what may be tried for a volume that is not mounted, as far as
// that is known now; next skips what was tried before.
func (e *engine) mountSteps(spec volumeSpec, d *disk) []step {
	memory := step{verb: mountMemory, volume: spec.volume}
	if d == nil && spec.memory != nil {
		return []step{memory}
	}
	if d == nil {
		return nil
	}
	var list []step
	if p := d.byLabel(spec.label); p != nil {
		list = e.attempts(spec, p)
	}
	if spec.mayBeLost {
		list = append(list, memory)
	}
	return list
}

// attempts returns what may be tried to mount a partition. A file system with its error
// flag set is repaired before it is mounted: the kernel mounts it, and makes it read-only
// at the next access to what is wrong. One that is corrupt is repaired and mounted again.
// Only when both fail is a volume that may be lost made again: people's data is on it.
func (e *engine) attempts(spec volumeSpec, p *partition) []step {
	first := step{verb: mount, volume: spec.volume, device: p.name}
	fix := step{verb: repair, volume: spec.volume, device: p.name}
	repaired, remade := first, first
	repaired.after, remade.after = repair, remake
	made := step{verb: remake, device: p.name}

	var list []step
	if spec.filesystem == "ext4" && (p.hasErrors || errors.Is(e.tried[first], errCorrupt)) {
		list = append(list, fix)
	}
	last := first
	if e.worked(fix) {
		last = repaired
	}
	_, fixTried := e.tried[fix]
	lost := errors.Is(e.tried[fix], errBeyondRepair) || fixTried && errors.Is(e.tried[last], errCorrupt)
	switch {
	case !lost || !spec.mayBeLost:
		return append(list, last)
	case e.worked(made):
		return append(list, made, remade)
	}
	return append(list, made)
}

// worked reports whether a step was taken, without an error.
func (e *engine) worked(s step) bool {
	err, tried := e.tried[s]
	return tried && err == nil
}
