package main

import (
	"fmt"
	"time"
)

const (
	mib = 1 << 20

	// lowWater is how much of the disk must be free for the database to be written: it
	// grows by 16 MiB at a time, its log by as much.
	lowWater = 32 * mib
	// reserveBytes are kept back on the disk, at most this and at most 1/reserveShare of
	// it, and given up when others have filled it: with them the database can still be
	// opened, answer, and delete.
	reserveBytes = 64 * mib
	reserveShare = 64

	// maxQuota is etcd's own default. On a small disk it is 1/quotaShare of it: as
	// much again is needed to defragment, and for the daily copy.
	maxQuota   = 2 << 30
	minQuota   = 64 * mib
	quotaShare = 8

	// worthDefragment is the size below which free space in the file is nobody's concern.
	worthDefragment = 64 * mib
	// daily is how often at most a database that is not full is defragmented or copied.
	daily = 24 * time.Hour
	// settled is how long etcdd must have served before it does either: a machine that
	// boots has better things to do.
	settled = 10 * time.Minute
	// compactPause is how long a compaction may take to be of effect.
	compactPause = time.Minute
)

// quotaOf is the size at which a database on a disk of that size refuses writes.
func quotaOf(disk int64) int64 { return min(max(disk/quotaShare, minQuota), maxQuota) }

// reserveOf is how much is kept back on it.
func reserveOf(disk int64) int64 { return min(disk/reserveShare, reserveBytes) }

// seen is what the keeper looked at.
type seen struct {
	now         time.Time
	serving     time.Duration // since the database was opened
	file, inUse int64         // of the database, bytes
	quota       int64
	disk, free  int64 // of the filesystem, bytes; free to etcdd
	refusing    bool  // the alarm NOSPACE is on
	reserved    bool  // the reserve is on the disk
	keeps       bool  // this disk is one on which a reserve is kept
	copied      time.Time
}

// memory is what the keeper remembers of itself.
type memory struct {
	compacted    time.Time
	defragmented time.Time
	short        bool // the disk is full, or has not yet enough room again
}

// action is one thing to do.
type action string

const (
	giveReserve  action = "give the reserve"
	takeReserve  action = "take the reserve"
	refuseWrites action = "refuse writes"
	takeWrites   action = "take writes"
	compact      action = "compact"
	defragment   action = "defragment"
	backup       action = "copy"
)

// next says what to do about what was seen, in this order.
//
// A full disk: when others leave less than lowWater, writes are refused and the reserve is
// given; when there is room for the reserve and twice lowWater it is taken again, and
// so are writes. In between nothing changes, so that no one who writes just as much
// as he deletes makes it flap.
//
// A full database: etcd itself refuses writes. It is compacted, defragmented if that
// brings it below its quota, and writes are taken again once it is well below.
func next(m memory, s seen) (memory, []action) {
	var do []action
	reserve := reserveOf(s.disk)
	switch {
	case s.free < lowWater:
		m.short = true
		if s.reserved {
			do = append(do, giveReserve)
		}
		if !s.refusing {
			do = append(do, refuseWrites)
		}
		return m, do
	case m.short && s.free < reserve+2*lowWater:
		return m, nil
	}
	m.short = false
	if s.keeps && !s.reserved && s.free >= reserve+2*lowWater {
		do = append(do, takeReserve)
		s.free -= reserve
	}
	roomy := s.inUse < s.quota/10*8
	switch {
	case s.refusing && roomy && s.file < s.quota/10*9:
		return m, append(do, takeWrites)
	case s.refusing && roomy && s.canDefragment():
		m.defragmented = s.now
		return m, append(do, defragment)
	case s.refusing && s.now.Sub(m.compacted) >= compactPause:
		m.compacted = s.now
		return m, append(do, compact)
	case s.refusing || s.serving < settled:
		return m, do
	}
	if s.file >= worthDefragment && s.inUse < s.file/2 && s.now.Sub(m.defragmented) >= daily && s.canDefragment() {
		m.defragmented = s.now
		return m, append(do, defragment)
	}
	if age := s.now.Sub(s.copied); (age >= daily || age < -time.Hour) && s.free >= s.file+s.disk/10 {
		do = append(do, backup)
	}
	return m, do
}

// canDefragment tells whether there is room for what is in use a second time.
func (s seen) canDefragment() bool { return s.free >= s.inUse+lowWater }

// trouble says what is wrong in a sentence, or "".
func (s seen) trouble(m memory) string {
	switch {
	case m.short:
		return fmt.Sprintf("the disk is full: %d MiB free; writes are refused until there is more", s.free/mib)
	case s.refusing && s.inUse >= s.quota/10*8:
		return fmt.Sprintf("the database is full: %d of %d MiB in use; writes are refused until objects are deleted", s.inUse/mib, s.quota/mib)
	case s.refusing:
		return "the database was full; writes are refused until it is compacted"
	}
	return ""
}
