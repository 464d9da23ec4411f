package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	timeapi "github.com/dactyl-os/dactyl/ipc/time"
)

type server struct {
	world *world
	clock clock
	log   *slog.Logger
	built time.Time // the clock is never set to an earlier time

	mu       sync.Mutex // guards what follows
	state    state
	lastSync time.Time
}

func newServer(w *world, c clock, log *slog.Logger) *server {
	return &server{world: w, clock: c, log: log}
}

// keep asks and corrects until the daemon ends.
func (s *server) keep(ctx context.Context) error {
	for {
		wait, err := s.keep1(ctx)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// keep1 asks once, corrects the clock and says when to ask again. Its error is
// the kernel's: a clock that cannot be set.
func (s *server) keep1(ctx context.Context) (time.Duration, error) {
	r := s.world.ask(ctx).notBefore(s.built, s.clock.now())
	s.mu.Lock()
	before := s.state
	s.mu.Unlock()
	after, do := before.next(r)
	var err error
	switch do {
	case step:
		err = s.clock.step(after.offset)
	case slew:
		err = s.clock.slew(after.offset, after.wait)
	}
	if err != nil || ctx.Err() != nil {
		return 0, err
	}
	s.tell(before, after, do)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = after
	if after.failure == "" {
		s.lastSync = s.clock.now()
	}
	return after.wait, nil
}

// tell logs what changed; the hundredth failure in a row is no news.
func (s *server) tell(before, after state, did correction) {
	switch {
	case did == step:
		s.log.Info("clock stepped", "by", after.offset.String(), "server", after.server)
	case after.failure != "" && before.failure == "":
		s.log.Info("no time server answers", "error", after.failure)
	case after.note != "" && before.note == "":
		s.log.Warn("clock set by a server that may be wrong", "note", after.note, "offset", after.offset.String())
	case after.failure == "" && (before.failure != "" || !before.synchronized):
		s.log.Info("clock synchronized", "offset", after.offset.String(), "server", after.server)
	}
}

// GetTime implements timeapi.Server.
func (s *server) GetTime(context.Context, *timeapi.GetTimeRequest) (*timeapi.GetTimeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &timeapi.GetTimeResponse{
		TimeUnixNs:   s.clock.now().UnixNano(),
		Synchronized: s.state.synchronized,
		Server:       s.state.server,
		OffsetNs:     int64(s.state.offset),
		Error:        s.state.failure,
		Note:         s.state.note,
	}
	if !s.lastSync.IsZero() {
		answer.LastSyncUnixNs = s.lastSync.UnixNano()
	}
	return answer, nil
}
