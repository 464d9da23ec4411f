package main

import "github.com/dactyl-os/dactyl/ipc/storage"

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

func mountTable(r *storage.ListMountsResponse) table {
	t := table{header: []string{"VOLUME", "SOURCE", "TARGET", "FILESYSTEM", "READONLY", "SIZE", "USED", "NOTE"}}
	for _, m := range r.Mounts {
		t.add(m.Volume, m.Source, m.Target, m.Filesystem, yes(m.ReadOnly), size(m.SizeBytes), size(m.UsedBytes), m.Note)
	}
	return t
}
