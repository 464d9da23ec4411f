package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

const (
	// tierPatience is how long a daemon that mounts may keep the tiers above
	// waiting: no single daemon keeps the machine from being reached.
	tierPatience = 15 * time.Second
	// stuckTimeout is how long a tier is waited for after its last SIGKILL was due:
	// a process that does not end then hangs in the kernel.
	stuckTimeout = 7 * time.Second
	// lastLongest is how long those that start last wait for the others: as long as a
	// start may take.
	lastLongest = abi.ReadyTimeout
)

// fleet is all daemons in their tiers. It is as pure as step.
type fleet struct {
	units  []unit
	tiers  []int  // of units, same order
	mounts []bool // of units: a root made before it is ready lacks what it mounts
	free   []bool // of units: nothing that others mount is in its root
	last   []bool // of units: it starts when nobody else is starting
	all    bool   // those too have been started, if there are any
	tier   int    // highest that has been started, or being stopped
	since  time.Time
	ending bool
	halted bool
}

func newFleet(daemons []daemonTier) *fleet {
	f := &fleet{}
	for _, d := range daemons {
		u := unit{name: d.name, state: down, binary: d.binary, conduct: d.conduct}
		u.grace = cmp.Or(d.grace, abi.StopTimeout)
		if d.onRequest {
			u.state = idle
		}
		u.held = d.domain != "" && !u.leads()
		f.units = append(f.units, u)
		f.tiers = append(f.tiers, d.tier)
		f.mounts = append(f.mounts, d.mounts)
		f.free = append(f.free, d.free)
		f.last = append(f.last, d.last)
	}
	f.all = !slices.Contains(f.last, true)
	return f
}

// daemonTier is what a fleet must know of a daemon.
type daemonTier struct {
	name   daemonName
	tier   int
	binary string
	mounts bool
	free   bool
	last   bool
	conduct
}

func (f *fleet) unit(name daemonName) *unit {
	for i := range f.units {
		if f.units[i].name == name {
			return &f.units[i]
		}
	}
	return nil
}

// boot starts the lowest tier and all that need nothing of what daemons mount; the
// others follow by themselves. Callers wait in the sockets of daemons that are not there
// yet, so a tier waits for the ones below only where these mount what is to be in its
// daemons' roots. Those that start last leave the others the processors, and the disk
// that programs are read from.
func (f *fleet) boot(now time.Time) []action {
	f.tier, f.since = slices.Min(f.tiers), now
	actions := f.each(f.tier, evStart, now)
	for i, u := range f.units {
		if f.free[i] && !f.last[i] && u.state == down {
			actions = append(actions, f.step(i, event{what: evStart}, now)...)
		}
	}
	return append(actions, f.proceed(now)...)
}

// end begins to stop everything, the highest tier first.
func (f *fleet) end(now time.Time) []action {
	if f.ending {
		return nil
	}
	f.ending, f.tier, f.since = true, slices.Max(f.tiers), now
	return append(f.each(f.tier, evStop, now), f.proceed(now)...)
}

// handle takes an event of one daemon.
func (f *fleet) handle(name daemonName, e event, now time.Time) []action {
	i := slices.IndexFunc(f.units, func(u unit) bool { return u.name == name })
	if i < 0 {
		return nil
	}
	if reason := f.hinders(f.units[i], e.what); reason != "" {
		return []action{refusal(name, e.request, reason)}
	}
	return append(f.step(i, e, now), f.proceed(now)...)
}

// tick lets every daemon look at the clock.
func (f *fleet) tick(now time.Time) []action {
	var actions []action
	for _, t := range f.order() {
		actions = append(actions, f.each(t, evTick, now)...)
	}
	return append(actions, f.proceed(now)...)
}

// each gives the units of a tier the same event, but does not start those that start last.
func (f *fleet) each(tier int, what eventKind, now time.Time) []action {
	var all []action
	for i := range f.units {
		if f.tiers[i] == tier && !(what == evStart && f.last[i]) {
			all = append(all, f.step(i, event{what: what}, now)...)
		}
	}
	return all
}

// proceed goes on to the next tier, and the next, as long as nothing keeps it.
func (f *fleet) proceed(now time.Time) []action {
	var actions []action
	for !f.halted && (f.settled() || due(f.patience(), now)) {
		order := f.order()
		if f.ending {
			slices.Reverse(order)
		}
		i := slices.Index(order, f.tier) + 1
		if i == len(order) {
			if f.ending {
				f.halted = true
				return append(actions, action{what: actHalt})
			}
			return append(actions, f.startLast(now)...)
		}
		f.tier, f.since = order[i], now
		what := evStart
		if f.ending {
			what = evStop
		}
		actions = append(actions, f.each(f.tier, what, now)...)
	}
	return actions
}

// startLast starts those that start last, one after the other, while nobody else is starting.
func (f *fleet) startLast(now time.Time) []action {
	if f.all || f.starting() && !due(f.patience(), now) {
		return nil
	}
	for i, u := range f.units {
		if f.last[i] && u.state == down {
			f.since = now
			return f.step(i, event{what: evStart}, now)
		}
	}
	f.all = true
	return nil
}

func (f *fleet) starting() bool {
	return slices.ContainsFunc(f.units, func(u unit) bool { return u.state == starting })
}

// settled says whether the tier keeps nobody waiting any more: at boot by what
// it has still to mount, on the way down by processes that have not left.
func (f *fleet) settled() bool {
	for i, u := range f.units {
		if f.tiers[i] != f.tier {
			continue
		}
		if f.ending && (u.state != down || len(u.leaving) > 0) {
			return false
		}
		if !f.ending && f.mounts[i] && u.state != up && u.state != done && u.state != gaveUp {
			return false
		}
	}
	return true
}

func (f *fleet) patience() time.Time {
	switch {
	case f.halted || f.since.IsZero():
		return time.Time{}
	case f.ending:
		return f.since.Add(f.grace() + stuckTimeout)
	case f.tier == slices.Max(f.tiers) && f.all:
		return time.Time{}
	case f.tier == slices.Max(f.tiers):
		return f.since.Add(lastLongest)
	}
	return f.since.Add(tierPatience)
}

// grace returns how long the tier's last SIGKILL may be after its SIGTERM.
func (f *fleet) grace() time.Duration {
	longest := time.Duration(0)
	for i, u := range f.units {
		if f.tiers[i] == f.tier {
			longest = max(longest, u.grace)
		}
	}
	return longest
}

// wake returns when the fleet next wants a tick; zero for never.
func (f *fleet) wake() time.Time {
	at := f.patience()
	for _, u := range f.units {
		at = earlier(at, u.wake())
	}
	return at
}

// order returns the tiers that exist, lowest first.
func (f *fleet) order() []int {
	tiers := slices.Clone(f.tiers)
	slices.Sort(tiers)
	return slices.Compact(tiers)
}
