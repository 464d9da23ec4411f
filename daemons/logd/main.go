package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/log"
)

func main() { kit.Main(setup) }

// setup takes the pipes and the kernel's log. The files of the rings wait until
// the process that this one may replace has let go of them.
func setup(ctx context.Context, d *kit.Daemon) error {
	kmsg, err := os.Open("/dev/kmsg")
	if err != nil {
		return err
	}
	var names []string
	for _, p := range d.LogPipes() {
		names = append(names, p.Name)
	}
	s := newServer(names)
	log.Register(d.IPC, s)
	d.Go("keep logs", func(ctx context.Context) error {
		return s.keep(ctx, d.Log, store{d.Spec.Write[0]}, d.LogPipes(), kmsg)
	})
	return nil
}

// keep holds the rings from the moment they are free until ctx ends.
func (s *server) keep(ctx context.Context, log *slog.Logger, st store, pipes []kit.LogPipe, kmsg *os.File) error {
	unlock, err := st.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s.open(func(name string) *ring {
		a, b, err := st.segments(name)
		if err != nil {
			log.Warn("lines will not outlive this process", "source", name, "err", err)
			return newRing(make([]byte, segmentBytes), make([]byte, segmentBytes))
		}
		r := newRing(a, b)
		unmapPages(a)
		unmapPages(b)
		return r
	})

	b := &sharedBuffer{b: make([]byte, 64<<10)} // as much as a pipe holds: so a read ends where a write did
	var all sync.WaitGroup
	for _, p := range pipes {
		all.Go(func() {
			src := s.sources[p.Name]
			var lines splitter
			err := readAll(ctx, p.File, b, func(chunk []byte) {
				lines.feed(chunk, func(text []byte) { src.add(time.Now().UnixNano(), text) })
			})
			if err != nil && ctx.Err() == nil {
				log.Error("read a log", "daemon", p.Name, "err", err)
			}
		})
	}
	all.Go(func() {
		err := readAll(ctx, kmsg, b, func(record []byte) {
			m, err := parseMessage(record)
			if err != nil {
				log.Warn("skipped", "err", err)
				return
			}
			s.sources[kernelSource].addAt(line{m.sequence + 1, bootTime() + int64(m.at), m.text})
		})
		if err != nil && ctx.Err() == nil {
			log.Error("read the kernel's log", "err", err)
		}
	})
	all.Wait()
	return nil
}
