package main

import (
	"sync"
	"time"
)

// maxReported is how long after the image was built a reported time may be. A computer
// with a wrong year would otherwise give all certificates of the machine that year.
const maxReported = 10 // years

// clockSkew is the difference between two clocks that does not count: no two computers'
// clocks agree to the second, and a reported time has been on its way.
const clockSkew = time.Minute

// A clock is what lives are counted from: the machine's own, or the time that the owner's
// computer reported when it claimed the machine, and what has passed since, if that is
// later. A machine that has neither a battery nor a network may be years behind, and its
// certificates must be valid for people whose clock is right. A reported time counts only if
// it is later by more than clockSkew, and only until a time server has confirmed the machine's clock.
type clock struct {
	machine   func() time.Time     // may be set at any time
	up        func() time.Duration // runs on, whatever the machine's clock is set to
	confirmed func() bool          // a time server has confirmed the machine's clock
	latest    time.Time            // no later time is believed of a client

	mu       sync.Mutex // guards what follows
	reported time.Time  // zero: none
	at       time.Duration
}

// newClock returns a clock for an image that was built at epoch.
func newClock(machine func() time.Time, up func() time.Duration, confirmed func() bool, epoch time.Time) *clock {
	if epoch.Before(dawn) {
		epoch = dawn
	}
	return &clock{machine: machine, up: up, confirmed: confirmed, latest: epoch.AddDate(maxReported, 0, 0)}
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

// estimate returns what was reported plus the time since; zero if nothing was.
func (c *clock) estimate() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reported.IsZero() {
		return c.reported
	}
	return c.reported.Add(c.up() - c.at)
}

// ahead returns the estimate where lives are counted from it, else zero.
func (c *clock) ahead() time.Time {
	if t := c.estimate(); t.After(c.machine()) {
		return t
	}
	return time.Time{}
}

// report sets what is reported; zero removes it.
func (c *clock) report(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reported, c.at = t, c.up()
}
