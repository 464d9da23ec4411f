package main

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// handshakeInterval limits the rate of handshakes: a client that sends the same
	// ClientHello again and again pays nothing for it, and the gateway a signature.
	handshakeInterval = 10 * time.Millisecond
	handshakeBurst    = 64
)

// pace limits a rate, and lets the addresses that wait have their turns one after the other.
type pace struct {
	interval time.Duration
	burst    int

	mu     sync.Mutex // guards what follows
	tokens int
	since  time.Time // when tokens were counted last
	queues map[netip.Addr][]*turn
	order  []netip.Addr // the keys of queues; the next is first
	timer  *time.Timer
}

// turn is one that waits.
type turn struct{ came chan struct{} }

func newPace(interval time.Duration, burst int) *pace {
	p := &pace{interval: interval, burst: burst, tokens: burst, since: time.Now(), queues: map[netip.Addr][]*turn{}}
	p.timer = time.AfterFunc(time.Hour, p.advance)
	p.timer.Stop()
	return p
}

// wait returns when it is the turn of one of this address, or ctx is done.
func (p *pace) wait(ctx context.Context, address netip.Addr) error {
	p.mu.Lock()
	p.refillLocked(time.Now())
	if p.tokens > 0 && len(p.order) == 0 {
		p.tokens--
		p.mu.Unlock()
		return nil
	}
	t := &turn{came: make(chan struct{})}
	if len(p.queues[address]) == 0 {
		p.order = append(p.order, address)
	}
	p.queues[address] = append(p.queues[address], t)
	p.timer.Reset(p.interval)
	p.mu.Unlock()
	select {
	case <-t.came:
		return nil
	case <-ctx.Done():
		p.remove(address, t)
		return ctx.Err()
	}
}

func (p *pace) remove(address netip.Addr, t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.queues[address]
	i := slices.Index(queue, t)
	if i < 0 {
		return // it came at the same moment
	}
	if queue = slices.Delete(queue, i, i+1); len(queue) > 0 {
		p.queues[address] = queue
		return
	}
	delete(p.queues, address)
	i = slices.Index(p.order, address)
	p.order = slices.Delete(p.order, i, i+1)
}

func (p *pace) refillLocked(now time.Time) {
	n := int(now.Sub(p.since) / p.interval)
	if n <= 0 {
		return
	}
	p.since = p.since.Add(time.Duration(n) * p.interval)
	p.tokens = min(p.burst, p.tokens+n)
}

// advance gives turns away for as long as there are tokens.
func (p *pace) advance() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refillLocked(time.Now())
	for p.tokens > 0 && len(p.order) > 0 {
		address := p.order[0]
		queue := p.queues[address]
		t := queue[0]
		p.order = p.order[1:]
		if len(queue) > 1 {
			p.queues[address] = queue[1:]
			p.order = append(p.order, address)
		} else {
			delete(p.queues, address)
		}
		p.tokens--
		close(t.came)
	}
	if len(p.order) > 0 {
		p.timer.Reset(p.interval)
	}
}
