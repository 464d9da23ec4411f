package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// filter is what the machine's packet filter depends on; its rules are in
// filter_linux.go.
type filter struct {
	uplinks []linkIndex    // links to networks outside, ascending
	inside  []netip.Prefix // addresses that only this machine and its pods reach
}

func (f filter) equal(g filter) bool {
	return slices.Equal(f.uplinks, g.uplinks) && slices.Equal(f.inside, g.inside)
}

func (f filter) String() string {
	var uplinks, inside []string
	for _, i := range f.uplinks {
		uplinks = append(uplinks, fmt.Sprint(int(i)))
	}
	for _, p := range f.inside {
		inside = append(inside, p.String())
	}
	return fmt.Sprintf("filter: uplinks %s; inside %s", strings.Join(uplinks, ","), strings.Join(inside, ","))
}

// settleFilter sets the packet filter, before any link is put up. Until the
// configuration is known, what a networkd before this one has set stays.
func (e *engine) settleFilter() []action {
	if e.settings == nil || e.settings.assumed {
		return nil
	}
	want := filter{inside: slices.Concat(e.settings.inside, []netip.Prefix{self})}
	for _, l := range e.seen.links {
		if _, managed := e.configOf(l); managed {
			want.uplinks = append(want.uplinks, l.index)
		}
	}
	slices.Sort(want.uplinks)
	if e.seen.filter != nil && e.seen.filter.equal(want) {
		return nil
	}
	return []action{setFilter{want}}
}
