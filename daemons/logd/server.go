package main

import (
	"context"
	"sync"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// kernelSource is the name of the kernel's ring; no daemon is called that.
const kernelSource = "kernel"

// server hands out what the sources hold.
type server struct {
	sources map[string]*source
	opened  chan struct{} // closed once the sources have their rings
}

// source is one ring and those who wait for its next line.
type source struct {
	mu      sync.Mutex // guards what follows
	ring    *ring
	changed chan struct{} // closed and replaced when a line is added
}

// newServer returns a server for the named logs and the kernel's, all of which
// wait for open.
func newServer(names []string) *server {
	s := &server{sources: map[string]*source{}, opened: make(chan struct{})}
	for _, name := range append(names, kernelSource) {
		s.sources[name] = &source{changed: make(chan struct{})}
	}
	return s
}

// open gives each source its ring and lets calls in.
func (s *server) open(ringOf func(name string) *ring) {
	for name, src := range s.sources {
		src.ring = ringOf(name)
	}
	close(s.opened)
}

// ReadLog implements log.Server.
func (s *server) ReadLog(ctx context.Context, r *log.ReadLogRequest, to ipc.Sender[*log.Line]) error {
	src, ok := s.sources[r.Daemon]
	if !ok || r.Daemon == kernelSource {
		return status.Errorf(codes.NotFound, "this image has no daemon %q", r.Daemon)
	}
	return s.read(ctx, src, query{r.Follow, r.After, r.Tail}, to)
}

// ReadKernel implements log.Server.
func (s *server) ReadKernel(ctx context.Context, r *log.ReadKernelRequest, to ipc.Sender[*log.Line]) error {
	return s.read(ctx, s.sources[kernelSource], query{r.Follow, r.After, r.Tail}, to)
}

type query struct {
	follow bool
	after  uint64
	tail   uint32
}

func (s *server) read(ctx context.Context, src *source, q query, to ipc.Sender[*log.Line]) error {
	select {
	case <-s.opened:
	case <-ctx.Done():
		return ctx.Err()
	}
	after := src.start(q)
	for {
		batch, changed := src.since(after)
		for _, l := range batch {
			if err := to.Send(l); err != nil {
				return err
			}
			after = l.Cursor
		}
		if len(batch) > 0 {
			continue
		}
		if !q.follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// start returns the cursor behind which an answer begins. One that the source
// has not reached is from another boot: everything is new to its owner.
func (src *source) start(q query) uint64 {
	src.mu.Lock()
	defer src.mu.Unlock()
	after := q.after
	if after > src.ring.last {
		after = 0
	}
	if q.tail > 0 {
		after = src.ring.tail(after, q.tail)
	}
	return after
}

// batchLines bounds how much of a ring is copied for one reader at a time.
const batchLines = 64

// since copies the next lines after a cursor and returns what tells of more.
func (src *source) since(after uint64) (batch []*log.Line, changed <-chan struct{}) {
	src.mu.Lock()
	defer src.mu.Unlock()
	for l := range src.ring.since(after) {
		batch = append(batch, &log.Line{
			Cursor:     l.cursor,
			TimeUnixNs: l.time,
			Text:       string(l.text),
			Dropped:    l.cursor - after - 1,
		})
		after = l.cursor
		if len(batch) == batchLines {
			break
		}
	}
	return batch, src.changed
}

// add adds a line with the next cursor.
func (src *source) add(time int64, text []byte) {
	src.mu.Lock()
	defer src.mu.Unlock()
	src.ring.append(time, text)
	src.wake()
}

// addAt adds a line unless its cursor is already there or past.
func (src *source) addAt(l line) {
	src.mu.Lock()
	defer src.mu.Unlock()
	if l.cursor > src.ring.last {
		src.ring.put(l)
		src.wake()
	}
}

func (src *source) wake() {
	close(src.changed)
	src.changed = make(chan struct{})
}
