package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// apiPort is where routerd listens.
const apiPort = 7400

// view is what there is to show. A nil part has not been learnt yet.
type view struct {
	system    *system
	addresses *[]string // CIDR, as networkd has them, without link-local ones
	pairing   *pairing
	kube      *cluster
	daemons   *[]daemon
}

type system struct{ version, mode, kernel, hostname string }

type pairing struct{ code, fingerprint string } // no code once claimed

// cluster is Kubernetes as kubed has it.
type cluster struct {
	state      kube.ClusterState
	name, node string
	message    string // what is waited for or wrong
}

func (c cluster) configured() bool {
	return c.state != kube.ClusterState_CLUSTER_STATE_UNSPECIFIED && c.state != kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED
}

// ready says that the node is, and all components.
func (c cluster) ready() bool { return c.state == kube.ClusterState_CLUSTER_STATE_READY }

func (c cluster) String() string {
	if !c.configured() {
		return c.message
	}
	if c.ready() {
		return fmt.Sprintf("%s, node %s is Ready", c.name, c.node)
	}
	return c.name + ", not Ready: " + c.message
}

type daemon struct {
	name, reason string
	state        machine.DaemonState
	restarts     uint32
	onRequest    bool // a part of Kubernetes
}

// well tells whether there is nothing to say of d. Parts of Kubernetes start and
// stop as kubed wants, which its own line tells.
func (d daemon) well() bool {
	if d.onRequest {
		return d.state != machine.DaemonState_DAEMON_STATE_BACKOFF && d.state != machine.DaemonState_DAEMON_STATE_GAVE_UP
	}
	return d.state == machine.DaemonState_DAEMON_STATE_UP || d.state == machine.DaemonState_DAEMON_STATE_DONE
}

// missing says what keeps the machine from being ready; empty when it is.
func (v view) missing() string {
	switch {
	case v.system == nil || v.daemons == nil:
		return "init"
	case v.addresses == nil:
		return "network"
	case v.pairing == nil:
		return "trust"
	}
	var waiting []string
	for _, d := range *v.daemons {
		if !d.well() && !d.onRequest { // how Kubernetes is, its own line says
			waiting = append(waiting, d.name)
		}
	}
	if len(waiting) > 0 {
		return strings.Join(waiting, ", ")
	}
	if len(*v.addresses) == 0 && !v.kube.works() {
		return "no address yet"
	}
	return ""
}

// works tells whether the machine does what it is for, which takes no network.
func (c *cluster) works() bool { return c != nil && c.ready() }

// fact is one thing shown: a name and what is so called.
type fact struct{ name, value string }

// facts are what both terminals show, in order.
func (v view) facts() []fact {
	var out []fact
	out = append(out, v.apis()...)
	switch {
	case v.pairing == nil:
		out = append(out, fact{"pairing code", "starting"})
	case v.pairing.code != "":
		out = append(out, fact{"pairing code", v.pairing.code}, fact{"fingerprint", v.pairing.fingerprint})
	default:
		out = append(out, fact{"claimed", "yes"}, fact{"fingerprint", v.pairing.fingerprint})
	}
	if v.kube == nil {
		return append(out, fact{"Kubernetes", "starting"})
	}
	return append(out, fact{"Kubernetes", v.kube.String()})
}

func (v view) apis() []fact {
	if v.addresses == nil {
		return []fact{{"API", "starting"}}
	}
	var out []fact
	for _, a := range *v.addresses {
		if p, err := netip.ParsePrefix(a); err == nil {
			out = append(out, fact{"API", fmt.Sprintf("https://%v", netip.AddrPortFrom(p.Addr(), apiPort))})
		}
	}
	if len(out) == 0 {
		return []fact{{"API", "no address yet"}}
	}
	return out
}

// title is the first line.
func (v view) title() string {
	if v.system == nil {
		return "dactyl"
	}
	mode := ""
	if v.system.mode != "production" {
		mode = " (" + v.system.mode + ")"
	}
	return clean(fmt.Sprintf("dactyl %s%s, kernel %s", v.system.version, mode, v.system.kernel))
}

// standing is the last line.
func (v view) standing() string {
	if m := v.missing(); m != "" {
		return clean("not ready: " + m)
	}
	return clean("dactyl " + v.system.version + " ready")
}

// plain is the text for the serial line.
func (v view) plain() string {
	lines := []string{v.title()}
	for _, f := range v.facts() {
		lines = append(lines, clean(f.name+": "+f.value))
	}
	if v.daemons != nil {
		for _, d := range *v.daemons {
			if !d.well() {
				lines = append(lines, clean(strings.TrimSuffix(d.name+": "+words.Of(d.state)+": "+d.reason, ": ")))
			}
		}
	}
	lines = append(lines, v.standing())
	return strings.Join(lines, "\n") + "\n"
}

// screen is the text for a screen.
func (v view) screen() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  %s", v.title())
	if v.system != nil && v.system.hostname != "" {
		fmt.Fprintf(&b, "\n  %s", clean(v.system.hostname))
	}
	b.WriteString("\n\n")
	last := ""
	for _, f := range v.facts() {
		name := f.name
		if name == last {
			name = ""
		}
		last = f.name
		fmt.Fprintf(&b, "  %-13s %s\n", name, clean(f.value))
	}
	if v.daemons != nil {
		fmt.Fprintf(&b, "\n  %-13s %-9s %s\n", "DAEMON", "STATE", "RESTARTS")
		for _, d := range *v.daemons {
			if d.onRequest && d.well() {
				continue // a screen has 25 lines
			}
			row := fmt.Sprintf("  %-13s %-9s %-8d %s", clean(d.name), words.Of(d.state), d.restarts, clean(d.reason))
			b.WriteString(strings.TrimRight(row, " ") + "\n")
		}
	}
	fmt.Fprintf(&b, "\n  %s\n", v.standing())
	return b.String()
}

// clean replaces what could drive a terminal: names and reasons come from elsewhere.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// Pace of asking and of printing.
const (
	askStarting  = time.Second // asking costs what the daemons that start could use
	askReady     = 2 * time.Second
	askLongest   = 30 * time.Second // reached two minutes after the last change: each look wakes four daemons
	printAtLeast = 2 * time.Second  // between two texts on the serial line until all is ready
)

// pace decides when to print and when to ask again.
type pace struct {
	printed   string
	printedAt time.Time
	wait      time.Duration
	seen      string
}

// next returns what the serial line gets now, if anything, and how long to wait
// before the next look. What it returns counts as printed only after did.
func (p *pace) next(v view, now time.Time) (print string, wait time.Duration) {
	text, ready := v.plain(), v.missing() == ""
	starting := v.kube != nil && v.kube.configured() && !v.kube.ready()
	switch {
	case !ready:
		p.wait = askStarting
	case text != p.seen || p.wait < askReady || starting:
		p.wait = askReady
	default:
		p.wait = min(p.wait*5/4, askLongest)
	}
	p.seen = text
	if text == p.printed || !ready && now.Sub(p.printedAt) < printAtLeast {
		return "", p.wait
	}
	return text, p.wait
}

// did tells that a text is on the serial line.
func (p *pace) did(print string, now time.Time) { p.printed, p.printedAt = print, now }

// reachable returns those addresses that somebody else could use.
func reachable(all []string) []string {
	return slices.DeleteFunc(all, func(a string) bool {
		p, err := netip.ParsePrefix(a)
		return err != nil || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast()
	})
}
