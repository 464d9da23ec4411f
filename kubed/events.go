package main

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/words"
	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

// This file has what the engine can be told. Everything returns what to do now.

func (e *engine) tick(now time.Time) []action { return e.settle(now) }

func (e *engine) configure(now time.Time, s settings) []action {
	e.settings, e.stale = &s, true
	e.keysJob.due = now
	e.configured = map[partName]string{}
	for _, p := range e.parts {
		p.starts.due = now
		if p.data {
			e.configured[p.name] = s.configuration(p.name)
		}
	}
	return e.settle(now)
}

// observe takes what others say of the machine. Name servers that are gone while
// there are no others are kept: networkd forgets them for a moment when it is replaced.
func (e *engine) observe(now time.Time, f facts) []action {
	if len(f.resolvers) == 0 {
		f.resolvers = e.facts.resolvers
	}
	if e.facts.hostname == f.hostname && e.facts.boot == f.boot &&
		slices.Equal(e.facts.addresses, f.addresses) && slices.Equal(e.facts.resolvers, f.resolvers) && maps.Equal(e.facts.mtus, f.mtus) {
		return nil
	}
	e.facts, e.stale = f, true
	return e.settle(now)
}

// keptIt: who the node is has been stored, or not: it is tried again.
func (e *engine) keptIt(now time.Time, p pin, err error) []action {
	e.keeps.done(now, err)
	if err == nil {
		e.pin = p
	}
	return e.settle(now)
}

// prepared: trustd has given what was wished.
func (e *engine) prepared(now time.Time, w wish, err error) []action {
	e.keysJob.done(now, err)
	e.keysFail = ""
	if err == nil {
		e.keys = w.String()
	} else {
		e.keysFail = err.Error()
	}
	return e.settle(now)
}

// started: PID 1 runs a program with the flags that it was asked for.
func (e *engine) started(now time.Time, p render.Program, err error) []action {
	x := e.part(partName(p.Name))
	x.starts.done(now, err)
	if err != nil {
		x.problem = err.Error()
		return e.settle(now)
	}
	x.asked, x.wrote = flags(p), liveTexts(p)
	x.begun, x.problem, x.checks.due, x.recount = now, "", now, true
	e.lookSoon(now)
	return e.settle(now)
}

// wrote: a running program's live files are there.
func (e *engine) wrote(now time.Time, p render.Program, err error) []action {
	x := e.part(partName(p.Name))
	x.writes.done(now, err)
	if err == nil {
		x.wrote = liveTexts(p)
	}
	return e.settle(now)
}

func (e *engine) stopped(now time.Time, name partName, err error) []action {
	p := e.part(name)
	p.stops.done(now, err)
	if err == nil {
		p.process, p.asked = process{state: machine.DaemonState_DAEMON_STATE_IDLE}, ""
		p.set(now, false, false, "")
	}
	return e.settle(now)
}

// restarted: a part has a new process, because the engine or a person wanted it to.
func (e *engine) restarted(now time.Time, name partName, err error) []action {
	p := e.part(name)
	p.restart.done(now, err)
	if err == nil {
		p.began(now, "it has been restarted")
	}
	e.lookSoon(now)
	return e.settle(now)
}

func (e *engine) appliedThem(now time.Time, all []render.Object, versions string, err error) []action {
	e.applies.done(now, err)
	if err == nil {
		e.applied, e.versions, e.inspects.due = bodies(all), versions, now.Add(inspectAgain)
	}
	return e.settle(now)
}

// inspected: the versions that these objects have in the cluster. Others than when they
// were applied mean that one was changed or deleted.
func (e *engine) inspected(now time.Time, all []render.Object, versions string, err error) []action {
	e.inspects.done(now, err)
	if err == nil {
		e.inspects.due = now.Add(inspectAgain)
		if e.applied == bodies(all) && e.versions != versions {
			e.applied, e.applies.due = "", now
		}
	}
	return e.settle(now)
}

// checkedIt: a health check has been answered.
func (e *engine) checkedIt(now time.Time, name partName, h health) []action {
	p := e.part(name)
	p.checkedIt(now, e.round(now), h)
	if h.problem != "" && p.proven {
		e.lookSoon(now)
	}
	return e.settle(now)
}

// lookSoon asks PID 1 again, though not all the time.
func (e *engine) lookSoon(now time.Time) {
	e.occasion = now
	if at := now.Add(againLook); at.Before(e.looks.due) {
		e.looks.due = at
	}
}

// seen: what PID 1 says of the parts, and whether the disk is full; asked is when it was
// asked.
func (e *engine) seen(now, asked time.Time, all map[partName]process, full bool, err error) []action {
	e.full = full
	e.looks.busy, e.looks.due = false, e.round(now)
	if err != nil {
		e.looks.due = now.Add(slowLook)
		return e.settle(now)
	}
	if e.occasion.After(asked) {
		e.looks.due = now.Add(max(againLook, e.looks.soon(now)))
	}
	for _, p := range e.parts {
		is, there := all[p.name]
		if there && !p.begun.After(asked) {
			e.compare(now, p, is)
		}
	}
	return e.settle(now)
}

// compare takes what PID 1 says of a part.
func (e *engine) compare(now time.Time, p *part, is process) {
	was := p.process
	p.process = is
	e.countStarts(p, was)
	if p.asked == "" {
		return
	}
	switch {
	case is.state == machine.DaemonState_DAEMON_STATE_IDLE:
		p.asked = "" // somebody has stopped it
		p.set(now, false, false, "it was stopped")
	case is.state != machine.DaemonState_DAEMON_STATE_UP:
		p.set(now, false, false, strings.TrimSuffix(words.Of(is.state)+": "+is.reason, ": "))
		p.checks.due = earliest(p.checks.due, now)
		e.looks.due = earliest(e.looks.due, now.Add(slowLook))
	case was.pid != 0 && is.pid != was.pid:
		p.began(now, "it ended and was started again")
	}
	if !p.checked {
		p.set(now, is.state == machine.DaemonState_DAEMON_STATE_UP, is.state == machine.DaemonState_DAEMON_STATE_UP, p.problem)
	}
}

// nodeIs is what the API says of the node.
type nodeIs struct {
	ready    bool
	message  string
	labelled bool // it has its labels and its range of pods' addresses
	gone     bool // there is no such node
}

func (e *engine) nodeSeen(now time.Time, n nodeIs, err error) []action {
	e.nodeAsks.busy = false
	e.nodeAsks.due = earliest(e.round(now), now.Add(healthLook))
	if err != nil {
		e.nodeFailed++
		n = nodeIs{e.nodeReady && e.nodeFailed < doubts, err.Error(), e.labelled, e.nodeGone}
	} else {
		e.nodeFailed = 0
		if !n.gone {
			e.nodeIn = e.part("kubelet").begun
		}
	}
	e.nodeGone = n.gone
	if n.ready != e.nodeReady {
		e.nodeReady, e.nodeSince = n.ready, now
	}
	e.labelled, e.nodeSays = n.labelled, n.message
	if !n.ready || err != nil {
		e.nodeAsks.due = now.Add(slowLook)
		if now.Sub(e.part("kubelet").begun) < coming {
			e.nodeAsks.due = now.Add(e.nodeAsks.soon(now))
		}
	}
	return e.settle(now)
}

func (e *engine) labelledIt(now time.Time, err error) []action {
	e.labels.done(now, err)
	e.labelled = e.labelled || err == nil
	return e.settle(now)
}
