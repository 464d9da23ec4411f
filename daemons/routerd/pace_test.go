package main

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// An address that waits many times delays no other, and a waiter that gives up leaves no trace.
func TestPace(t *testing.T) {
	p := newPace(time.Hour, 2) // no token comes by itself
	flood, owner := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for range 2 {
		if err := p.wait(t.Context(), flood); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 100)
	for range cap(ended) {
		go func() { ended <- p.wait(ctx, flood) }()
	}
	waiting := func(a netip.Addr, n int) {
		t.Helper()
		eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.queues[a]) == n })
	}
	waiting(flood, cap(ended))
	came := make(chan error, 1)
	go func() { came <- p.wait(t.Context(), owner) }()
	waiting(owner, 1)
	for range 2 { // the flood's turn, then the owner's
		p.mu.Lock()
		p.since = p.since.Add(-time.Hour)
		p.mu.Unlock()
		p.advance()
	}
	if err := <-came; err != nil {
		t.Error(err)
	}
	cancel()
	given := 0
	for range cap(ended) {
		if <-ended == nil {
			given++
		}
	}
	if given != 1 {
		t.Errorf("%d turns of the flood, want 1", given)
	}
	if len(p.queues) != 0 || len(p.order) != 0 {
		t.Errorf("%v %v wait for nothing", p.queues, p.order)
	}
}
