package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dactyl-os/dactyl/ipc/storage"
)

// kernel is where storaged touches the machine.
type kernel interface {
	observe() (observation, error)
	// do takes one step; o is the observation that led to it.
	do(s step, o observation) error
	// grow has a mounted ext4 take so many blocks. errBusy: it is being grown by
	// another process; try again.
	grow(v volume, blocks uint64) error
	// usage says how full a volume is that is mounted on a partition or inMemory.
	usage(v volume, on string) (usage, error)
	disks() ([]*storage.Disk, error)
	partitions() ([]*storage.Partition, error)
}

var errBusy = errors.New("busy")

// settle takes steps until nothing is left to do, and returns what it ended with.
// A step that fails is logged and changes what the engine wants; it is no error.
// When ctx ends it takes no further step: what was interrupted says nothing about a disk.
func settle(ctx context.Context, k kernel, e *engine, log *slog.Logger) (observation, error) {
	for {
		o, err := k.observe()
		if err != nil {
			return o, err
		}
		s, ok := e.next(o)
		if !ok {
			reportNotes(e.notes(o), log)
			return o, nil
		}
		err = k.do(s, o)
		if ctx.Err() != nil {
			return o, fmt.Errorf("%s: %w", s, ctx.Err())
		}
		e.done(s, err)
		if err != nil {
			log.Error(s.String(), "err", err)
		} else {
			log.Info(s.String())
		}
	}
}

func reportNotes(notes map[volume]string, log *slog.Logger) {
	for _, spec := range volumes {
		if note := notes[spec.volume]; note != "" {
			log.Warn(spec.target, "note", note)
		}
	}
}

// busyWait is how long to wait for the process before this one, which ends within
// seconds, to finish its last step.
const busyWait = time.Second

// growAll lets filesystems take the space of their partitions. One that will not
// is as large as it was: a later start tries again.
func growAll(ctx context.Context, k kernel, list []growth, log *slog.Logger) {
	for _, g := range list {
		err := growOne(ctx, k, g)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			log.Error("grow", "volume", g.volume, "err", err)
			continue
		}
		log.Info("grown", "volume", g.volume, "bytes", g.to*g.blockSize)
	}
}

func growOne(ctx context.Context, k kernel, g growth) error {
	for _, blocks := range g.steps() {
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := k.grow(g.volume, blocks)
			if err == nil {
				break
			}
			if !errors.Is(err, errBusy) {
				return err
			}
			wait(ctx, busyWait)
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
