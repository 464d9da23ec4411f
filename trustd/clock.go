package main

import (
	"sync"
	"time"
)

// latest is the latest time that is believed of somebody else.
var latest = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// A clock is what lives are counted from: the machine's own, or what somebody who may
// has told since, if that is later. A machine to which neither a battery nor a network
// tells the time may be years behind, and its certificates must do for those who are not.
type clock struct {
	machine func() time.Time     // may be set at any time
	up      func() time.Duration // goes on whatever the machine's is set to

	mu   sync.Mutex // guards what follows
	told time.Time  // zero: nobody has told anything
	at   time.Duration
}

func newClock(machine func() time.Time, up func() time.Duration) *clock {
	return &clock{machine: machine, up: up}
}

func (c *clock) now() time.Time {
	now := dawn
	for _, t := range []time.Time{c.machine(), c.estimate()} {
		if t.After(now) {
			now = t
		}
	}
	return now
}

// estimate is what was told and the time since; zero if nothing was.
func (c *clock) estimate() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told.IsZero() {
		return c.told
	}
	return c.told.Add(c.up() - c.at)
}

func (c *clock) tell(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told, c.at = t, c.up()
}
