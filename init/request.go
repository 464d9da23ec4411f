package main

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
)

// This file decides about daemons that run only on request, and about those that
// share the namespaces of another. It is as pure as step.

// want starts the daemon with these arguments. What runs with them, or is tried
// again and again, is left alone.
func (d *doing) want(request int, args []string) {
	switch {
	case !d.onRequest:
		d.refuse(request, "it is started at boot, not on request")
	case slices.Equal(args, d.args) && (d.state == starting || d.state == up || d.state == backoff):
		d.act(action{what: actAnswer, id: d.main.id, answer: answer{request, codes.OK, ""}})
	case d.request != 0:
		d.decline(request)
	default:
		d.request, d.hurried, d.args = request, false, args
		d.listen()
		d.coming = d.binary
		d.leave(thenStart)
	}
}

// quit ends the daemon until somebody wants it again. Who waits for it to start
// waits in vain.
func (d *doing) quit(request int) {
	if !d.onRequest {
		d.refuse(request, "it is started at boot, not on request")
		return
	}
	d.reply(codes.Aborted, "it was told to stop")
	d.dropNext("it was told to stop")
	d.request, d.hurried = request, false
	d.leave(thenIdle)
}

// decline refuses a restart.
func (d *doing) decline(request int) {
	if d.state == idle {
		d.refuse(request, "nobody has requested it")
		return
	}
	d.refuse(request, "another request for it is under way")
}

func (d *doing) refuse(request int, reason string) { d.act(refusal(d.name, request, reason)) }

func refusal(name daemonName, request int, reason string) action {
	return action{what: actAnswer, name: name, answer: answer{request, codes.FailedPrecondition, reason}}
}

// wait puts a start off until its domain is there.
func (d *doing) wait() {
	d.state, d.reason, d.retry = backoff, "waits for "+string(d.domain), time.Time{}
}

// release starts what has waited for its domain, or has failed because it was
// about to end.
func (d *doing) release() {
	d.held = false
	if d.state == backoff {
		d.failed = 0
		d.start(d.binary)
	}
}

// leads says whether the unit makes a domain.
func (u unit) leads() bool { return u.domain == u.name }

// inhabits says whether the unit runs in the domain of another.
func (u unit) inhabits(leader unit) bool { return u.domain == leader.name && !u.leads() }

// hinders returns why a request for u cannot be met because of other units;
// empty when nothing does.
func (f *fleet) hinders(u unit, what eventKind) string {
	switch what {
	case evRestart, evRequest, evQuit:
	default:
		return ""
	}
	if f.ending {
		return shuttingDown
	}
	for _, other := range f.units {
		switch {
		case what == evRequest && u.inhabits(other) && !other.wanted():
			return "it runs in the domain of " + string(other.name) + ", which nobody has requested"
		case what == evQuit && other.inhabits(u) && other.wanted():
			return string(other.name) + " runs in its domain"
		}
	}
	return ""
}

// wanted says whether the unit runs or PID 1 sees to it that it will.
func (u unit) wanted() bool {
	switch u.state {
	case starting, up, backoff:
		return true
	case stopping:
		return u.then == thenStart
	}
	return false
}

// step gives unit i an event, and those who share its domain the news that it
// is there or is not.
func (f *fleet) step(i int, e event, now time.Time) []action {
	before := f.units[i].state
	var actions []action
	f.units[i], actions = step(f.units[i], e, now)
	leader := f.units[i]
	if (before == up) == (leader.state == up) {
		return actions
	}
	news := event{what: evHold}
	if leader.state == up {
		news.what = evRelease
	}
	for j, u := range f.units {
		if u.inhabits(leader) {
			actions = append(actions, f.step(j, news, now)...)
		}
	}
	return actions
}
