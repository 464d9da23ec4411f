package main

import (
	"errors"
	"fmt"
)

// notes says of each volume what an operator should know; most have none. A
// storaged that was started anew finds the volumes mounted and no longer knows
// what it took to get there: the log does.
func (e *engine) notes(o observation) map[volume]string {
	notes := map[volume]string{}
	for _, spec := range volumes {
		if n := e.note(spec, o); n != "" {
			notes[spec.volume] = n
		}
	}
	if err := e.tableTrouble(o.disk); err != nil {
		notes[ephemeral] = join(notes[ephemeral], "does not grow: "+err.Error())
	}
	return notes
}

func (e *engine) note(spec volumeSpec, o observation) string {
	m := o.mounted[spec.volume]
	switch {
	case o.disk == nil && m.on == inMemory:
		return "in memory: no disk"
	case o.disk == nil:
		return "no disk"
	}
	err := e.trouble(spec, o.disk)
	switch {
	case m.on == "" && err != nil:
		return "not mounted: " + err.Error()
	case m.on == inMemory && err != nil:
		return "in memory: " + err.Error()
	case m.on == inMemory:
		return "in memory"
	}
	device := o.disk.byLabel(spec.label).name
	fix := step{verb: repair, volume: spec.volume, device: device}
	switch {
	case e.worked(step{verb: remake, device: device}):
		return "recreated: " + err.Error()
	case e.worked(fix):
		return "repaired: it had errors; storaged's log says which"
	case e.tried[fix] != nil:
		return "has errors: " + e.tried[fix].Error()
	}
	return ""
}

// trouble is why a volume is not what it should be: the last that was tried of it
// and failed.
func (e *engine) trouble(spec volumeSpec, d *disk) error {
	p := d.byLabel(spec.label)
	if p == nil {
		return fmt.Errorf("%s has no partition %s", d.name, spec.label)
	}
	first := step{verb: mount, volume: spec.volume, device: p.name}
	repaired, remade := first, first
	repaired.after, remade.after = repair, remake
	for _, s := range []step{remade, {verb: remake, device: p.name}, repaired, {verb: repair, volume: spec.volume, device: p.name}, first} {
		if err := e.tried[s]; err != nil {
			return err
		}
	}
	return nil
}

// tableTrouble is why the boot disk's partition table is not as it should be.
func (e *engine) tableTrouble(d *disk) error {
	if d == nil {
		return nil
	}
	_, _, err := d.wantedTable()
	for s, failed := range e.tried {
		if s.verb == writeTable || s.verb == coverDisk || s.verb == growPartition {
			err = errors.Join(err, failed)
		}
	}
	return err
}
