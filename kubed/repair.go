package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/machine"
)

// This file decides when a component's directory on EPHEMERAL is at fault, and has
// PID 1 set it aside. A component that cannot read what is in its directory exits
// soon after each start, and PID 1 starts it again for ever.

// Other faults end it as often: flags that it does not take, reservations above what the
// machine has, a full disk. A directory is at fault only where none of these can be.

// maxFailedStarts is how many starts in a row may fail before the directory is set
// aside. All pods end with it, so other faults must have had their time: after the
// third failure PID 1 waits, and ten take a minute.
const maxFailedStarts = 10

// minHealthy is how long a component must be healthy for its configuration to be known to
// work: the kubelet answers its health check for a moment before it exits for reservations
// that the machine cannot meet.
const minHealthy = time.Minute

// setAside has PID 1 set the directories of a component aside and start its domain
// again.
type setAside struct {
	name partName
	why  string
}

func (a setAside) String() string {
	return fmt.Sprintf("set aside the directories of %s: %s", a.name, a.why)
}

// remember stores the configurations that are known to work, by component.
type remember struct{ worked map[partName]string }

func (a remember) String() string { return "remember what was healthy" }

// configuration is a digest of what cluster.yaml says for a component.
func (s settings) configuration(name partName) string {
	text, err := json.Marshal([]any{s.cluster, s.podNetwork, s.serviceNetwork, s.registries, s.extraArgs[string(name)]})
	if err != nil {
		panic("BUG: settings have no JSON: " + err.Error())
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// rememberThem stores the configurations of components that have been healthy for long
// enough.
func (e *engine) rememberThem(now time.Time) []action {
	if !e.remembers.may(now) {
		return nil
	}
	worked := maps.Clone(e.worked)
	for _, p := range e.parts {
		if at := e.provenAt(p); !at.IsZero() && !now.Before(at) && e.current(p) {
			worked[p.name] = e.configured[p.name]
		}
	}
	if maps.Equal(worked, e.worked) {
		return nil
	}
	e.remembers.begin(now)
	return []action{remember{worked}}
}

// current says that p was started with what cluster.yaml says now.
func (e *engine) current(p *part) bool {
	return e.wrong == "" && p.asked == flags(e.programs[slices.Index(e.parts, p)])
}

// provenAt is when p's configuration will be known to work; zero is never, or it is
// stored.
func (e *engine) provenAt(p *part) time.Time {
	if !p.data || !p.healthy || e.worked[p.name] == e.configured[p.name] {
		return time.Time{}
	}
	return p.since.Add(minHealthy)
}

func (e *engine) remembered(now time.Time, worked map[partName]string, err error) []action {
	e.remembers.done(now, err)
	if err == nil {
		e.worked = worked
	}
	return e.settle(now)
}

// countStarts takes what PID 1 says of p. Starts count as failed while p's
// dependencies are healthy, the disk has space, and p has neither been healthy since nor
// got other flags.
func (e *engine) countStarts(p *part, was process) {
	if p.healthy || p.recount || e.full || e.missing(p) != "" || was == (process{}) || p.process.restarts < p.goodStarts {
		p.goodStarts, p.recount = p.process.restarts, false
	}
}

// damaged says that p may be unable to start with what is in its directories.
func (p *part) damaged() bool {
	return p.data && !p.healthy && p.process.restarts >= p.goodStarts+maxFailedStarts
}

// repairIt has the directories of p set aside if nothing else can be at fault, once per
// boot.
func (e *engine) repairIt(now time.Time, p *part) []action {
	if !p.damaged() || p.repaired || !e.current(p) || e.spared(p) != "" || !p.repair.may(now) {
		return nil
	}
	p.repair.begin(now)
	why := "it has been healthy with this configuration"
	if e.worked[p.name] == "" {
		why = "cluster.yaml has no flags for it"
	}
	return []action{setAside{p.name, fmt.Sprintf("%d starts failed, and %s", maxFailedStarts, why)}}
}

// spared says why the directories of p stay although it fails; empty if they do not.
func (e *engine) spared(p *part) string {
	switch works := e.worked[p.name]; {
	case !p.data || p.healthy || p.repaired:
		return ""
	case e.full:
		return "the disk (EPHEMERAL) is full"
	case !p.damaged():
		return ""
	case works == "" && len(e.settings.extraArgs[string(p.name)]) > 0:
		return "it has not been healthy with its extraArgs in cluster.yaml yet"
	case works != "" && works != e.configured[p.name]:
		return "cluster.yaml has changed since it was last healthy"
	}
	return ""
}

// setItAside is told when the directories of a component have been set aside, or why
// not. again says that they had been in this boot.
func (e *engine) setItAside(now time.Time, name partName, again bool, err error) []action {
	p := e.part(name)
	p.repair.done(now, err)
	p.repaired = p.repaired || again || err == nil
	e.lookSoon(now)
	return e.settle(now)
}

// setAside asks PID 1. The first process of the domain ends, and so does all in it;
// then podd loads the system's images again.
func (p peers) setAside(ctx context.Context, name partName) (again bool, err error) {
	if _, err := p.machine.SetAside(ctx, &machine.SetAsideRequest{Name: string(name)}); err != nil {
		return status.Code(err) == codes.FailedPrecondition, err
	}
	for _, daemon := range []string{"pods", "podd"} {
		if _, err := p.machine.RestartDaemon(ctx, &machine.RestartDaemonRequest{Name: daemon}); err != nil {
			return false, err
		}
	}
	return false, nil
}
