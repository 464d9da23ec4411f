package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

// An action is what the engine wants done. Each is answered by an event.
type action interface{ String() string }

type (
	// keep stores who the node is.
	keep struct{ pin pin }
	// prepare asks trustd for keys.
	prepare struct{ wish wish }
	// run writes a program's files and asks PID 1 to run it; one that runs so already
	// is left alone.
	run struct{ program render.Program }
	// write writes a running program's live files.
	write struct{ program render.Program }
	// sweep removes all files that are not among these, when nobody needs them any more.
	sweep struct{ programs []render.Program }
	// stop ends a program.
	stop struct{ name partName }
	// restart ends a program's process and starts another.
	restart struct {
		name partName
		why  string
	}
	// apply puts objects into the cluster.
	apply struct{ objects []render.Object }
	// label gives the node what its kubelet may not: labels, and its range of pods'
	// addresses.
	label struct {
		node string
		pods netip.Prefix
	}

	// Questions, asked over and over: they are left out of stories and logs.
	check   struct{ name partName }
	askNode struct{ node string }
	look    struct{} // what PID 1 says of all parts
	// inspect looks whether the objects in the cluster are those that were applied.
	inspect struct{ objects []render.Object }
)

// wish is what trustd is asked for.
type wish struct {
	cluster        string
	node           string
	addresses      []netip.Addr
	serviceNetwork netip.Prefix
}

func (w wish) String() string {
	var all []string
	for _, a := range w.addresses {
		all = append(all, a.String())
	}
	return fmt.Sprintf("%s at %s, services in %s", w.node, strings.Join(all, " "), w.serviceNetwork)
}

func (a keep) String() string    { return fmt.Sprintf("keep %s at %s", a.pin.Name, a.pin.Address) }
func (a prepare) String() string { return "keys for " + a.wish.String() }
func (a run) String() string     { return "run " + a.program.Name }
func (a write) String() string   { return "write " + a.program.Name }
func (a sweep) String() string   { return "sweep" }
func (a stop) String() string    { return "stop " + string(a.name) }
func (a restart) String() string { return fmt.Sprintf("restart %s: %s", a.name, a.why) }
func (a apply) String() string   { return fmt.Sprintf("apply %d objects", len(a.objects)) }
func (a label) String() string   { return "label " + a.node }
func (a check) String() string   { return "check " + string(a.name) }
func (a askNode) String() string { return "ask for node " + a.node }
func (a look) String() string    { return "look" }
func (a inspect) String() string { return "inspect the objects" }
