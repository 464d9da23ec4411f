package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// stepFrom is NTP's own threshold (RFC 5905, STEPT): below it slewing takes
	// minutes, above it would take longer than one wants to be wrong.
	stepFrom = 128 * time.Millisecond
	// steady is the offset up to which the clock proves good enough to be asked
	// about less often.
	steady = 10 * time.Millisecond
	// maxDistance is RFC 5905's MAXDIST: how far from the truth an answer may be.
	maxDistance = 1500 * time.Millisecond

	firstRetry = time.Second
	lastRetry  = time.Minute
	firstPoll  = time.Minute
	lastPoll   = 15 * time.Minute
)

// sample is one server's valid answer.
type sample struct {
	server   string
	offset   time.Duration // server − machine
	distance time.Duration // by which offset may be wrong
}

// good says that the answer is near enough to the truth to be believed without a note.
func (s sample) good() bool { return s.distance <= maxDistance }

// round is what came of asking all servers once.
type round struct {
	samples []sample
	failure string // why one gave no answer; matters when none did
	slower  bool   // a server asked to be asked less often
}

// correction is what is to be done to the clock.
type correction int

const (
	nothing correction = iota
	step               // set it at once
	slew               // let the kernel take it there
)

// state is what timed knows about the clock. The zero value is a machine that has
// not asked yet.
type state struct {
	synchronized bool
	server       string
	offset       time.Duration
	failure      string        // of the last round; empty when it succeeded
	note         string        // why server is no good one; empty when it is
	wait         time.Duration // until the next round
}

// next judges a round: what is known after it, and what to do to the clock.
func (s state) next(r round) (state, correction) {
	good := slices.DeleteFunc(slices.Clone(r.samples), func(a sample) bool { return !a.good() })
	note := ""
	if len(good) == 0 {
		if len(r.samples) == 0 || s.synchronized && s.note == "" {
			return s.failed(r), nothing
		}
		// No server has ever been better: its time is better than none.
		good = []sample{slices.MinFunc(r.samples, func(a, b sample) int { return cmp.Compare(a.distance, b.distance) })}
		note = fmt.Sprintf("%s says that it may be wrong by %v; no better server has answered", good[0].server, good[0].distance.Round(time.Millisecond))
	}
	best := median(good)
	n := state{synchronized: true, server: best.server, offset: best.offset, note: note, wait: firstPoll}
	if best.offset.Abs() > stepFrom {
		return n, step
	}
	if s.synchronized && s.failure == "" && s.note == "" && note == "" && best.offset.Abs() <= steady {
		n.wait = min(max(s.wait*2, firstPoll), lastPoll)
	}
	if r.slower {
		n.wait = lastPoll
	}
	return n, slew
}

// notBefore drops the answers by which the clock would be set to before earliest, which is
// when the image was built: such a server is wrong, or lies.
func (r round) notBefore(earliest, now time.Time) round {
	kept := r
	kept.samples = nil
	for _, a := range r.samples {
		if now.Add(a.offset).Before(earliest) {
			kept.failure = fmt.Sprintf("%s says that it is %s, which is before this system was built (%s)",
				a.server, now.Add(a.offset).UTC().Format(time.DateOnly), earliest.UTC().Format(time.DateOnly))
			continue
		}
		kept.samples = append(kept.samples, a)
	}
	return kept
}

// failed keeps what is known: a clock that was right stays nearly right without
// servers, and says so with the error beside it.
func (s state) failed(r round) state {
	n := s
	n.failure = r.failure
	if n.failure == "" {
		n.failure = "every answer was too far from its reference clock"
	}
	n.wait = firstRetry
	if s.failure != "" {
		n.wait = min(s.wait*2, lastRetry)
	}
	if r.slower {
		n.wait = lastPoll
	}
	return n
}

// median returns the sample in the middle by offset; of two in the middle, the one
// that can be less wrong.
func median(all []sample) sample {
	slices.SortStableFunc(all, func(a, b sample) int { return cmp.Compare(a.offset, b.offset) })
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	if high.distance < low.distance {
		return high
	}
	return low
}
