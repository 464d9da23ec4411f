package main

import (
	"time"

	systime "github.com/dactyl-os/dactyl/ipc/time"
)

func timeTable(r *systime.GetTimeResponse) table {
	last := ""
	if r.LastSyncUnixNs != 0 {
		last = moment(time.Unix(0, r.LastSyncUnixNs))
	}
	t := table{header: []string{"TIME", "SYNCHRONIZED", "SERVER", "OFFSET", "LAST-SYNC", "ERROR", "NOTE"}}
	t.add(moment(time.Unix(0, r.TimeUnixNs)), yes(r.Synchronized), r.Server, time.Duration(r.OffsetNs).String(), last, r.Error, r.Note)
	return t
}
