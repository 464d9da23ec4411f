package main

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/machine"
)

// This file decides when a component's directory on EPHEMERAL is at fault, and has
// PID 1 set it aside. A component that cannot read what is in its directory exits
// soon after each start, and PID 1 starts it again for ever.

// maxFailedStarts is how many starts in a row may fail before the directory is set
// aside. All pods end with it, so other faults must have had their time: after the
// third failure PID 1 waits, and ten take a minute.
const maxFailedStarts = 10

// setAside has PID 1 set the directories of a component aside and start its domain
// again.
type setAside struct{ name partName }

func (a setAside) String() string { return "set aside the directories of " + string(a.name) }

// countStarts takes what PID 1 says of p. Starts count as failed while p's
// dependencies are healthy and p has not been healthy since.
func (e *engine) countStarts(p *part, was process) {
	if p.healthy || e.missing(p) != "" || was == (process{}) || p.process.restarts < p.goodStarts {
		p.goodStarts = p.process.restarts
	}
}

// damaged says that p cannot start with what is in its directories.
func (p *part) damaged() bool {
	return p.data && !p.healthy && p.process.restarts >= p.goodStarts+maxFailedStarts
}

// repairIt has the directories of p set aside if they are at fault, once per boot. With
// flags from cluster.yaml, these are the likelier reason, and pods are not ended for it.
func (e *engine) repairIt(now time.Time, p *part) []action {
	if !p.damaged() || p.repaired || len(e.settings.extraArgs[string(p.name)]) > 0 || !p.repair.may(now) {
		return nil
	}
	p.repair.begin(now)
	return []action{setAside{p.name}}
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
