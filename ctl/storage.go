package main

import (
	"fmt"
	"strings"

	machineapi "github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/storage"
)

func diskTable(r *storage.ListDisksResponse) table {
	t := table{header: []string{"NAME", "SIZE", "TRANSPORT", "REMOVABLE", "READONLY", "SYSTEM", "MODEL", "SERIAL"}}
	for _, d := range r.Disks {
		t.add(d.Name, size(d.SizeBytes), d.Transport, yes(d.Removable), yes(d.ReadOnly), yes(d.System), d.Model, d.Serial)
	}
	return t
}

func partitionTable(r *storage.ListPartitionsResponse) table {
	t := table{header: []string{"NAME", "DISK", "LABEL", "START", "SIZE", "UUID", "TYPE"}}
	for _, p := range r.Partitions {
		t.add(p.Name, p.Disk, p.Label, size(p.StartBytes), size(p.SizeBytes), p.Uuid, p.Type)
	}
	return t
}

// storageMounts lists volumes, and notes at EPHEMERAL what PID 1 has set aside there.
func storageMounts(c *call) error {
	return c.withMachine(func(s *session) error {
		mounts, err := storage.NewClient(s).ListMounts(c.ctx, &storage.ListMountsRequest{})
		if err != nil {
			return err
		}
		daemons, err := machineapi.NewClient(s).ListDaemons(c.ctx, &machineapi.ListDaemonsRequest{Brief: true})
		if err != nil {
			return err
		}
		var notes []string
		for _, d := range daemons.Daemons {
			for _, path := range d.SetAside {
				notes = append(notes, fmt.Sprintf("%s was set aside: %s could not start with it", path, d.Name))
			}
		}
		for _, m := range mounts.Mounts {
			if m.Volume == "ephemeral" && len(notes) > 0 {
				m.Note = strings.TrimPrefix(m.Note+"; "+strings.Join(notes, "; "), "; ")
			}
		}
		return c.show(mounts, func() table { return mountTable(mounts) })
	})
}

func mountTable(r *storage.ListMountsResponse) table {
	t := table{header: []string{"VOLUME", "SOURCE", "TARGET", "FILESYSTEM", "READONLY", "SIZE", "USED", "NOTE"}}
	for _, m := range r.Mounts {
		t.add(m.Volume, m.Source, m.Target, m.Filesystem, yes(m.ReadOnly), size(m.SizeBytes), size(m.UsedBytes), m.Note)
	}
	return t
}
