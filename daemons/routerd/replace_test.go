package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"
)

// load is eight clients that make about a thousand calls a second, each every
// other to another daemon.
type load struct {
	t       *testing.T
	clients sync.WaitGroup
	done    chan struct{}

	mu    sync.Mutex // guards what follows
	count int
	lost  []error
	more  sync.Cond // count has grown
}

func (f *fixture) load(t *testing.T) *load {
	const clients, rate = 8, 1000
	l := &load{t: t, done: make(chan struct{})}
	l.more.L = &l.mu
	for range clients {
		c := f.dial(f.ca.client("ole", []string{"operator"}))
		l.clients.Go(func() {
			tick := time.NewTicker(time.Second * clients / rate)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-l.done:
					return
				case <-tick.C:
				}
				l.add(c.Invoke(context.Background(), []string{listLinks, reboot}[i%2], &emptypb.Empty{}, &emptypb.Empty{}))
			}
		})
	}
	l.wait(100)
	return l
}

func (l *load) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if err != nil {
		l.lost = append(l.lost, err)
	}
	l.more.Broadcast()
}

// wait returns after so many more calls.
func (l *load) wait(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n += l.count; l.count < n; {
		l.more.Wait()
	}
}

// end stops the clients; none of their calls may have been lost.
func (l *load) end() {
	close(l.done)
	l.clients.Wait()
	l.t.Logf("%d calls", l.count)
	if len(l.lost) > 0 {
		l.t.Errorf("%d of %d calls lost: %v", len(l.lost), l.count, l.lost[0])
	}
}

// A daemon is replaced under load: no call is lost.
func TestDaemonReplaced(t *testing.T) {
	f := start(t)
	l := f.load(t)
	for range 10 {
		old := f.daemons.server
		f.daemons.start() // both serve for a moment
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := old.Drain(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		l.wait(200)
	}
	l.end()
}

// The gateway itself is replaced under load: no call is lost.
func TestGatewayReplaced(t *testing.T) {
	f := start(t)
	l := f.load(t)
	current := f.server
	for range 10 {
		next := f.gateway(t)
		<-next.keeper.ready
		begin := time.Now()
		stop(current)
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("the old one took %v to end", took)
		}
		current = next
		l.wait(200)
	}
	l.end()
}
