package main

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// maxArriving is how many requests may be on their way in at a time. Each may grow to
	// ipc.MaxMessageBytes before anything is known of it, and is then copied once: all of
	// them together must fit into the gateway's memory.
	maxArriving = 8
	// maxArrivingOfOne leaves room for others when one caller sends slowly.
	maxArrivingOfOne = 4
	// arriveWithin is how long a message may take that has a place: 4 MiB at 1 Mbit/s.
	arriveWithin = 34 * time.Second
)

// arrivals hands out places to requests that are on their way in.
type arrivals struct {
	within time.Duration

	mu      sync.Mutex // guards what follows
	all     int
	of      map[string]int // by caller
	changed chan struct{}  // closed when a place becomes free
}

func newArrivals(within time.Duration) *arrivals {
	return &arrivals{within: within, of: map[string]int{}, changed: make(chan struct{})}
}

// take waits for a place until the call ends. Whoever has one gives it back.
func (a *arrivals) take(ctx context.Context, caller string) error {
	for {
		a.mu.Lock()
		if a.all < maxArriving && a.of[caller] < maxArrivingOfOne {
			a.all++
			a.of[caller]++
			a.mu.Unlock()
			return nil
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (a *arrivals) give(caller string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all--
	if a.of[caller]--; a.of[caller] == 0 {
		delete(a.of, caller)
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// receive has one message received by f, which reads from a stream: it holds a place
// meanwhile. What takes too long is given up; the stream's end then ends f as well.
func (a *arrivals) receive(ctx context.Context, caller string, f func() error) error {
	if err := a.take(ctx, caller); err != nil {
		return err
	}
	arrived := make(chan error, 1)
	go func() {
		defer a.give(caller)
		arrived <- f()
	}()
	late := time.NewTimer(a.within)
	defer late.Stop()
	select {
	case err := <-arrived:
		return err
	case <-late.C:
		return status.Errorf(codes.DeadlineExceeded, "the request did not arrive within %v", a.within)
	}
}
