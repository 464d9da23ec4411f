package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/words"
	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

var update = flag.Bool("update", false, "write what the engine does into testdata/*.txt: read the difference before you keep it")

// TestStories plays testdata/*.txt. Each file is a story: a line "t=TIME EVENT" is
// followed by what the engine does about it, a line "-> ACTION" each. What the engine
// does by itself before the next event carries its own time. A machine stands behind
// it that does as it is told.
//
// Events:
//
//	config [none] [cluster=C] [args=COMPONENT.FLAG=VALUE]… [registry=NAME]… [proxy=URL]
//	host NAME | addresses A,B | resolvers A,B
//	quick                       from now on everything is healthy, and the node ready, once it runs
//	healthy PART…               its health check succeeds from now on
//	ill PART REASON             it fails; a reason "not yet …" says that it works all the same
//	crash PART [TIMES]          its process ends; PID 1 starts another, which is ill
//	state PART STATE REASON     what PID 1 says of it
//	node ready | node not MESSAGE | node gone
//	disk full | disk free       as the file system with components' directories is
//	edited                      an object that kubed has applied is changed or deleted
//	fails ACTION MESSAGE        actions that begin so fail: keys, keep, run PART, apply, stop …
//	works ACTION                no longer
//	restart                     a new kubed, which knows only what was kept
//	reboot                      the machine too
//	forget                      what was kept is lost
//	person PART                 somebody restarts a part by hand
//	wait                        nothing; time goes on
//	status                      shows what kubed tells somebody who asks
//	asked                       shows how often kube-scheduler was asked since it was last shown
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no stories", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(script))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(script) {
				t.Errorf("the story goes otherwise:\n%s", firstDifference(got, string(script)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\ngot  %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// story is a machine while its story is told.
type story struct {
	*testing.T
	engine *engine
	now    time.Time
	out    strings.Builder

	boot     int
	pin      pin
	worked   map[partName]string
	full     bool
	facts    facts
	settings settings
	quick    bool
	programs map[partName]*program
	fails    map[string]string
	aside    map[partName]bool // set aside in this boot
	node     nodeIs
	pids     int32
	asked    int // kube-scheduler how it is
	edits    int // of objects in the cluster
}

// program is one as PID 1 runs it.
type program struct {
	args    string
	process process
	ill     string // what its health check says
}

var storyStart = time.Unix(1_000_000, 0)

func play(t *testing.T, script string) string {
	s := &story{T: t, now: storyStart, fails: map[string]string{}, worked: map[partName]string{}}
	s.reboot()
	for line := range strings.Lines(script) {
		if strings.HasPrefix(strings.TrimSpace(line), "->") {
			continue
		}
		if at, what, ok := cutTime(line); ok {
			s.until(storyStart.Add(at))
			s.out.WriteString(line)
			s.event(strings.Fields(what))
			continue
		}
		s.out.WriteString(line)
	}
	return s.out.String()
}

func cutTime(line string) (time.Duration, string, bool) {
	rest, ok := strings.CutPrefix(line, "t=")
	if !ok {
		return 0, "", false
	}
	at, what, _ := strings.Cut(rest, " ")
	d, err := time.ParseDuration(at)
	return d, what, err == nil
}

// reboot leaves only what was kept.
func (s *story) reboot() {
	s.boot++
	s.facts = facts{boot: fmt.Sprint("boot-", s.boot)}
	s.node = nodeIs{message: "the kubelet has not said yet"}
	s.programs, s.aside = map[partName]*program{}, map[partName]bool{}
	for _, x := range specifications {
		s.programs[x.name] = &program{process: process{state: machine.DaemonState_DAEMON_STATE_IDLE}}
	}
	s.restart()
}

func (s *story) restart() { s.engine = newEngine(s.now, s.pin, s.worked) }

// until lets the engine do what is due before then.
func (s *story) until(then time.Time) {
	for range 1_000_000 {
		next := s.engine.wake()
		if next.IsZero() || next.After(then) {
			s.now = then
			return
		}
		if !next.After(s.now) {
			s.Fatalf("the engine wants to be woken at %v, and it is %v", next, s.now)
		}
		s.now = next
		s.act(s.engine.tick(s.now), fmt.Sprintf("t=%v ", s.now.Sub(storyStart)))
	}
	s.Fatal("the engine does not come to rest")
}

// act does what the engine says, tells it how that went, and does what it then says.
func (s *story) act(all []action, at string) {
	for rounds := 0; len(all) > 0; rounds++ {
		if rounds > 1000 {
			s.Fatalf("the engine does not come to rest: %v", all)
		}
		a := all[0]
		switch a.(type) {
		case check, askNode, look, inspect:
		default:
			fmt.Fprintf(&s.out, "        -> %s%s\n", at, a)
		}
		all = append(all[1:], s.perform(a)...)
	}
}

func (s *story) failure(a action) error {
	for prefix, message := range s.fails {
		if strings.HasPrefix(a.String(), prefix) {
			return errors.New(message)
		}
	}
	return nil
}

func (s *story) perform(a action) []action {
	e, err := s.engine, s.failure(a)
	switch a := a.(type) {
	case keep:
		if err == nil {
			s.pin = a.pin
		}
		return e.keptIt(s.now, a.pin, err)
	case remember:
		if err == nil {
			s.worked = a.worked
		}
		return e.remembered(s.now, a.worked, err)
	case prepare:
		return e.prepared(s.now, a.wish, err)
	case run:
		if err == nil {
			s.start(partName(a.program.Name), flags(a.program))
		}
		return e.started(s.now, a.program, err)
	case write:
		return e.wrote(s.now, a.program, err)
	case sweep:
		return nil
	case stop:
		if err == nil {
			s.programs[a.name].process = process{state: machine.DaemonState_DAEMON_STATE_IDLE}
		}
		return e.stopped(s.now, a.name, err)
	case restart:
		if err == nil {
			s.respawn(a.name)
		}
		return e.restarted(s.now, a.name, err)
	case setAside:
		again := s.aside[a.name]
		if again {
			err = errors.New("set aside in this boot already")
		}
		if err == nil {
			s.aside[a.name] = true
			for _, name := range []partName{"pods", "containerd", "kubelet", "kube-proxy"} {
				s.respawn(name)
			}
		}
		return e.setItAside(s.now, a.name, again, err)
	case apply:
		return e.appliedThem(s.now, a.objects, fmt.Sprint(s.edits), err)
	case inspect:
		return e.inspected(s.now, a.objects, fmt.Sprint(s.edits), err)
	case label:
		s.node.labelled = err == nil
		return e.labelledIt(s.now, err)
	case check:
		if a.name == "kube-scheduler" {
			s.asked++
		}
		ill := s.programs[a.name].ill
		return e.checkedIt(s.now, a.name, health{ill, strings.HasPrefix(ill, "not yet ")})
	case askNode:
		return e.nodeSeen(s.now, s.node, err)
	case look:
		all := map[partName]process{}
		for name, p := range s.programs {
			all[name] = p.process
		}
		return e.seen(s.now, s.now, all, s.full, err)
	}
	s.Fatalf("unknown action %T", a)
	return nil
}

// start is PID 1's StartProgram.
func (s *story) start(name partName, args string) {
	p := s.programs[name]
	if p.process.state != machine.DaemonState_DAEMON_STATE_IDLE && p.args == args {
		return
	}
	p.args = args
	s.respawn(name)
}

func (s *story) respawn(name partName) {
	p := s.programs[name]
	s.pids++
	p.process = process{state: machine.DaemonState_DAEMON_STATE_UP, pid: 100 + s.pids, restarts: p.process.restarts + 1}
	p.ill = "it does not answer yet"
	if s.quick {
		p.ill = ""
		if name == "kubelet" {
			s.node = nodeIs{ready: true, labelled: s.node.labelled}
		}
	}
}

func (s *story) event(line []string) {
	kind, rest := line[0], line[1:]
	switch kind {
	case "config":
		s.settings = settingsOf(rest)
		s.act(s.engine.configure(s.now, s.settings), "")
	case "host":
		s.facts.hostname = rest[0]
		s.act(s.engine.observe(s.now, s.facts), "")
	case "addresses":
		s.facts.addresses = addressesOf(rest)
		s.act(s.engine.observe(s.now, s.facts), "")
	case "resolvers":
		s.facts.resolvers = addressesOf(rest)
		s.act(s.engine.observe(s.now, s.facts), "")
	case "quick":
		s.quick = true
	case "slow":
		s.quick = false
	case "healthy":
		for _, name := range rest {
			s.programs[partName(name)].ill = ""
		}
		s.act(s.engine.tick(s.now), "")
	case "ill":
		s.programs[partName(rest[0])].ill = strings.Join(rest[1:], " ")
	case "crash":
		times := 1
		if len(rest) > 1 {
			times, _ = strconv.Atoi(rest[1])
		}
		for range times {
			s.respawn(partName(rest[0]))
		}
	case "state":
		p := s.programs[partName(rest[0])]
		state, known := words.Parse[machine.DaemonState](rest[1])
		if !known {
			s.Fatalf("%q is no state of a daemon", rest[1])
		}
		p.process.state, p.process.reason, p.ill = state, strings.Join(rest[2:], " "), "connection refused"
	case "node":
		s.node.gone = false
		if s.node.ready, s.node.message = rest[0] == "ready", strings.Join(rest[1:], " "); rest[0] == "gone" {
			s.node = nodeIs{gone: true, message: "the kubelet has not registered it yet"}
		}
	case "disk":
		s.full = rest[0] == "full"
	case "edited":
		s.edits++
	case "fails":
		what, message, _ := strings.Cut(strings.Join(rest, " "), ": ")
		s.fails[what] = message
	case "works":
		delete(s.fails, strings.Join(rest, " "))
	case "restart":
		s.restart()
		s.act(s.engine.observe(s.now, s.facts), "")
		s.act(s.engine.configure(s.now, s.settings), "")
	case "forget":
		s.pin, s.worked = pin{}, map[partName]string{}
		s.restart()
	case "reboot":
		s.reboot()
	case "person":
		s.respawn(partName(rest[0]))
		s.act(s.engine.restarted(s.now, partName(rest[0]), nil), "")
	case "wait":
	case "asked":
		fmt.Fprintf(&s.out, "        -> %d times\n", s.asked)
		s.asked = 0
	case "status":
		s.act(s.engine.watch(s.now), "")
		s.status()
	default:
		s.Fatalf("unknown event %q", kind)
	}
}

func (s *story) status() {
	v := s.engine.view(s.now)
	text := words.Of(v.state)
	if !v.ready() {
		text += ": " + v.message
	}
	fmt.Fprintf(&s.out, "        -> %s\n", text)
	for _, p := range v.parts {
		if p.healthy {
			continue
		}
		text := fmt.Sprintf("%s is not healthy for %v", p.name, p.since)
		if p.waitingFor != "" {
			text += ", waits for " + p.waitingFor
		}
		if p.reason != "" {
			text += ": " + p.reason
		}
		fmt.Fprintf(&s.out, "        -> %s\n", text)
	}
}

func settingsOf(words []string) settings {
	c := settings{configured: true, cluster: "dactyl", podNetwork: netip.MustParsePrefix("10.244.0.0/16"), serviceNetwork: netip.MustParsePrefix("10.96.0.0/16"), extraArgs: map[string]map[string]string{}}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "none":
			return settings{}
		case "cluster":
			c.cluster = value
		case "args":
			component, option, _ := strings.Cut(value, ".")
			name, text, _ := strings.Cut(option, "=")
			c.extraArgs[component] = map[string]string{name: text}
		case "registry":
			c.registries.Hosts = append(c.registries.Hosts, render.Registry{Name: value, HTTP: true})
		case "proxy":
			c.registries.Proxy = value
		}
	}
	return c
}

func addressesOf(words []string) []netip.Addr {
	var all []netip.Addr
	for _, w := range words {
		for a := range strings.SplitSeq(w, ",") {
			all = append(all, netip.MustParseAddr(a))
		}
	}
	return all
}

// The table names render's programs in their order, and a part's needs before it.
func TestTableFits(t *testing.T) {
	n := render.Node{Name: "n", Address: localAddress, PodNetwork: netip.MustParsePrefix("10.244.0.0/16"), ServiceNetwork: netip.MustParsePrefix("10.96.0.0/16")}
	programs, err := render.Programs(n)
	if err != nil {
		t.Fatal(err)
	}
	var seen []partName
	for i, s := range specifications {
		if i >= len(programs) || programs[i].Name != string(s.name) {
			t.Fatalf("part %d is %s, not what render has there", i, s.name)
		}
		for _, n := range s.needs {
			if n.name != objects && !slices.Contains(seen, n.name) {
				t.Errorf("%s needs %s, which does not come before it", s.name, n.name)
			}
		}
		seen = append(seen, s.name)
	}
	if len(programs) != len(specifications) {
		t.Errorf("render has %d programs, the table %d parts", len(programs), len(specifications))
	}
}
