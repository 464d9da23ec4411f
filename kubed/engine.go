package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

// settings are what cluster.yaml says of this machine's part in a cluster.
type settings struct {
	configured     bool
	cluster        string
	podNetwork     netip.Prefix
	serviceNetwork netip.Prefix
	registries     render.Registries
	extraArgs      map[string]map[string]string
}

// engine decides. It is told what happens and returns what to do about it, and it is
// told the end of everything that it wanted done. It is not safe for concurrent use.
//
// It compares what should run with what PID 1 has been asked for. After a restart it
// knows nothing and asks for everything again, in order, which to PID 1 is no change.
type engine struct {
	began    time.Time
	now      time.Time // when it last settled: what was due by then has been begun
	settings *settings // nil: configd has not said yet
	facts    facts

	who   pin // as last decided; without a name it is not
	pin   pin // as kept
	keeps job
	lacks string // what who lacks

	configured map[partName]string // digests of what settings say for parts with directories
	worked     map[partName]string // those that are known to work, as kept
	remembers  job
	full       bool // the disk, which components' directories are on

	stale    bool         // what follows was made from older settings, facts or who
	node     *render.Node // nil until it is known who the node is
	programs []render.Program
	objects  []render.Object
	wrong    string // why cluster.yaml's arguments cannot be

	keys     string // the wish that has been met
	keysJob  job
	keysFail string

	parts    []*part
	looks    job
	occasion time.Time // when something happened that PID 1 is to be asked about
	swept    string
	applied  string // the objects that are in the cluster
	applies  job
	versions string // of the objects in the cluster, when they were applied
	inspects job

	watched  time.Time // when somebody last asked how all are
	freshens time.Time // when he had all asked at once

	nodeAsks   job
	nodeFailed int
	nodeReady  bool
	nodeSince  time.Time
	nodeSays   string    // why it is not ready
	nodeGone   bool      // it is not in the cluster
	nodeIn     time.Time // when the kubelet's process began in which it was
	labels     job
	labelled   bool
}

const (
	// inspectAgain is how often objects are inspected, in case one was changed or
	// deleted: a pod that finds no name server must not wait longer.
	inspectAgain = 30 * time.Second
	// registerLimit is how long a healthy kubelet may take to register its node before it
	// is started again. One whose node was there and is gone does not do it at all.
	registerLimit = 5 * time.Minute
)

func newEngine(now time.Time, was pin, worked map[partName]string) *engine {
	e := &engine{began: now, pin: was, worked: worked, nodeSince: now}
	for _, s := range specifications {
		e.parts = append(e.parts, &part{specification: s, since: now, begun: now})
	}
	return e
}

// round is when those are asked that are well, all together, so that kubed, and who
// answers for them, rest in between: a look's time from now, or half as much more or
// less. PID 1 is asked too: who ended and is back before its next health check would
// otherwise not have been restarted, for whoever asks kubed.
func (e *engine) round(now time.Time) time.Time {
	look := healthLook
	if e.calm(now) {
		look = calmLook
	}
	rounds := (now.Sub(e.began) + look*3/2) / look
	return e.began.Add(rounds * look)
}

// calm says that all has been well for a while and that nobody watches.
func (e *engine) calm(now time.Time) bool {
	last := latest(e.watched, e.nodeSince)
	for _, p := range e.parts {
		if !p.healthy {
			return false
		}
		last = latest(last, p.since)
	}
	return e.nodeReady && now.Sub(last) >= calming
}

// watch: somebody asks how all are, and will soon ask again. What is known may be as
// old as calmLook, so all are asked now, unless they just have been.
func (e *engine) watch(now time.Time) []action {
	if e.nodeReady && now.Sub(e.freshens) >= slowLook { // until then all are asked all the time
		e.freshens = now
		for _, j := range e.questions() {
			j.due = earliest(j.due, now)
		}
	}
	e.watched = now
	return e.settle(now)
}

// asksAll says that the answers to watch's questions are not all there.
func (e *engine) asksAll() bool {
	return slices.ContainsFunc(e.questions(), func(j *job) bool { return j.busy && !j.begun.After(e.freshens) })
}

// questions are all that is asked again and again.
func (e *engine) questions() []*job {
	all := []*job{&e.looks, &e.nodeAsks}
	for _, p := range e.parts {
		all = append(all, &p.checks)
	}
	return all
}

// settle brings everything one step nearer to where it should be.
func (e *engine) settle(now time.Time) []action {
	e.now = now
	if e.settings == nil {
		return nil
	}
	var out []action
	if e.looks.may(now) {
		e.looks.begin(now)
		out = append(out, look{})
	}
	if !e.settings.configured {
		return append(out, e.windDown(now)...)
	}
	e.render(now)
	if e.node == nil {
		return out
	}
	out = append(out, e.keep(now)...)
	out = append(out, e.prepare(now)...)
	out = append(out, e.rememberThem(now)...)
	if e.keys == e.wish().String() {
		for i, p := range e.parts {
			out = append(out, e.bring(now, p, e.programs[i])...)
		}
		out = append(out, e.sweep()...)
	}
	for _, p := range e.parts {
		out = append(out, e.nurse(now, p)...)
	}
	return append(out, e.furnish(now)...)
}

// render decides who the node is and what its parts are configured with.
func (e *engine) render(now time.Time) {
	was := e.who
	if was.Name == "" {
		was = e.pin
	}
	who, lacks := choose(was, e.facts, now.Sub(e.began))
	if e.lacks = lacks; lacks != "" {
		return
	}
	e.stale = e.stale || who != e.who
	e.who = who
	if !e.stale {
		return
	}
	e.stale = false
	n := render.Node{
		Cluster: e.settings.cluster, Name: who.Name, Address: who.Address,
		PodNetwork: e.settings.podNetwork, ServiceNetwork: e.settings.serviceNetwork,
		Resolvers: e.facts.resolvers, Registries: e.settings.registries, ExtraArgs: e.settings.extraArgs, MTU: e.facts.mtus[who.Address],
	}
	if n.MTU == 0 && e.node != nil {
		n.MTU = e.node.MTU // a cable that is out changes nothing
	}
	programs, err := render.Programs(n)
	if err != nil {
		e.wrong = err.Error() // what runs goes on as it is
		return
	}
	e.wrong, e.node, e.programs, e.objects = "", &n, programs, render.Objects(n)
}

func (e *engine) keep(now time.Time) []action {
	if e.who == e.pin || !e.keeps.may(now) {
		return nil
	}
	e.keeps.begin(now)
	return []action{keep{e.who}}
}

func (e *engine) wish() wish {
	return wish{e.node.Cluster, e.node.Name, reached(e.node.Address, e.facts), e.node.ServiceNetwork}
}

func (e *engine) prepare(now time.Time) []action {
	if e.keys == e.wish().String() || !e.keysJob.may(now) {
		return nil
	}
	e.keysJob.begin(now)
	return []action{prepare{e.wish()}}
}

// bring asks PID 1 for a part if it should run and is not known to, or should run with
// other flags.
func (e *engine) bring(now time.Time, p *part, want render.Program) []action {
	if p.asked == flags(want) {
		if p.wrote == liveTexts(want) || !p.writes.may(now) {
			return nil
		}
		p.writes.begin(now)
		return []action{write{want}}
	}
	if e.wrong != "" || e.missing(p) != "" || !p.starts.may(now) {
		return nil
	}
	if p.asked != "" {
		p.began(now, "it is started with other flags")
		p.goodStarts = p.process.restarts
	}
	p.starts.begin(now)
	return []action{run{want}}
}

// missing names the first of p's needs that is not met; empty if all are.
func (e *engine) missing(p *part) partName {
	for _, n := range p.needs {
		switch {
		case n.name == objects && e.applied == "",
			n.name != objects && e.part(n.name).asked == "",
			n.name != objects && n.only == healthy && !e.part(n.name).healthy,
			n.name != objects && n.only == almost && !e.part(n.name).almost:
			return n.name
		}
	}
	return ""
}

// sweep removes files that nobody was started with, when nobody is to be started anew.
func (e *engine) sweep() []action {
	var all strings.Builder
	for i, p := range e.parts {
		want := e.programs[i]
		if p.asked != flags(want) || p.wrote != liveTexts(want) {
			return nil
		}
		all.WriteString(p.asked)
		for _, f := range want.Files {
			all.WriteString(" " + f.Name)
		}
	}
	if e.swept == all.String() {
		return nil
	}
	e.swept = all.String()
	return []action{sweep{e.programs}}
}

// nurse asks a part how it is, and has it started anew if it hangs.
func (e *engine) nurse(now time.Time, p *part) []action {
	if p.asked == "" || !p.checked || p.via != "" && e.part(p.via).asked == "" {
		return nil
	}
	if repair := e.repairIt(now, p); repair != nil {
		return repair
	}
	if at := e.hungAt(p); !at.IsZero() && !now.Before(at) && p.restart.may(now) {
		p.restart.begin(now)
		p.hung++
		return []action{restart{p.name, fmt.Sprintf("not healthy for %v: %s", now.Sub(e.illSince(p)).Round(time.Second), p.problem)}}
	}
	if !p.checks.may(now) {
		return nil
	}
	p.checks.begin(now)
	return []action{check{p.name}}
}

// hungAt is when p counts as hung; zero is never. Who lacks what he needs does not
// hang, nor who is not running: that is PID 1's to mend.
func (e *engine) hungAt(p *part) time.Time {
	if p.own || p.healthy || p.process.state != machine.DaemonState_DAEMON_STATE_UP || e.missing(p) != "" || p.via != "" && !e.part(p.via).healthy {
		return time.Time{}
	}
	if p.proven {
		return e.illSince(p).Add(hungLimit)
	}
	return e.illSince(p).Add(startLimit << min(max(p.hung-1, 0), maxDoublings))
}

// illSince is since when p is not healthy although it could be, and got no nearer to it.
func (e *engine) illSince(p *part) time.Time {
	t := latest(latest(p.since, p.begun), p.nearer)
	for _, n := range p.needs {
		if n.name != objects && n.only != running {
			t = latest(t, e.part(n.name).since)
		}
	}
	return t
}

// furnish puts into the cluster what belongs there, and asks for the node.
func (e *engine) furnish(now time.Time) []action {
	if !e.part("kube-apiserver").healthy {
		return nil
	}
	var out []action
	changed := e.applies.failed == 0 && e.applied != bodies(e.objects)
	if e.applied != bodies(e.objects) && e.applies.may(now) || changed && !e.applies.busy {
		e.applies.begin(now)
		out = append(out, apply{e.objects})
	}
	if e.applied == bodies(e.objects) && e.inspects.may(now) {
		e.inspects.begin(now)
		out = append(out, inspect{e.objects})
	}
	if e.part("kubelet").asked == "" {
		return out
	}
	if e.nodeAsks.may(now) {
		e.nodeAsks.begin(now)
		out = append(out, askNode{e.node.Name})
	}
	if e.nodeReady && !e.labelled && e.labels.may(now) {
		e.labels.begin(now)
		out = append(out, label{e.node.Name, e.node.PodRange()})
	}
	return append(out, e.rejoin(now)...)
}

// rejoin restarts a kubelet whose node is gone from the cluster: a kubelet registers its
// node when it starts, and never again. Its pods run on, and stay in the cluster if it
// is back within 40 seconds, which is how long kube-controller-manager waits before it
// removes pods that have no node.
func (e *engine) rejoin(now time.Time) []action {
	p := e.part("kubelet")
	at := e.rejoinAt()
	if at.IsZero() || now.Before(at) || !p.restart.may(now) {
		return nil
	}
	p.restart.begin(now)
	return []action{restart{p.name, "the node is not in the cluster"}}
}

// rejoinAt is when the kubelet is to be restarted, because its node is gone; zero is
// never.
func (e *engine) rejoinAt() time.Time {
	p := e.part("kubelet")
	switch {
	case !e.nodeGone || !p.healthy:
		return time.Time{}
	case e.nodeIn.Equal(p.begun):
		return p.begun
	}
	return latest(p.begun, p.since).Add(registerLimit)
}

// windDown stops what runs although there is no cluster, the last started first.
func (e *engine) windDown(now time.Time) []action {
	for _, p := range slices.Backward(e.parts) {
		if p.process.state == machine.DaemonState_DAEMON_STATE_UNSPECIFIED || p.process.state == machine.DaemonState_DAEMON_STATE_IDLE {
			continue
		}
		if !p.stops.may(now) {
			return nil
		}
		p.stops.begin(now)
		return []action{stop{p.name}}
	}
	return nil
}

// wake is when settle is to be called next, if nothing else happens; zero is never.
// What was due when it was last called has been begun, or waits for something else.
func (e *engine) wake() time.Time {
	if e.settings == nil {
		return time.Time{}
	}
	var next time.Time
	at := func(t time.Time) {
		if t.After(e.now) {
			next = earliest(next, t)
		}
	}
	jobs := []*job{&e.looks, &e.keeps, &e.keysJob, &e.applies, &e.inspects, &e.nodeAsks, &e.labels, &e.remembers}
	at(e.rejoinAt())
	for _, p := range e.parts {
		jobs = append(jobs, &p.starts, &p.writes, &p.stops, &p.restart, &p.repair, &p.checks)
		at(e.hungAt(p))
		at(e.provenAt(p))
	}
	for _, j := range jobs {
		if !j.busy {
			at(j.due)
		}
	}
	if e.lacks != "" {
		at(e.began.Add(addressGrace))
	}
	return next
}

func (e *engine) part(name partName) *part {
	i := slices.IndexFunc(e.parts, func(p *part) bool { return p.name == name })
	if i < 0 {
		panic("BUG: no part " + string(name))
	}
	return e.parts[i]
}

// flags are what a program is asked for with; never empty.
func flags(p render.Program) string { return p.Name + " " + strings.Join(p.Args, " ") }

// liveTexts are what is in a program's files that it reads again.
func liveTexts(p render.Program) string {
	var b strings.Builder
	for _, f := range p.Files {
		if f.Live {
			b.WriteString(f.Name + "\n" + f.Text)
		}
	}
	return b.String()
}

func bodies(all []render.Object) string {
	var b strings.Builder
	for _, o := range all {
		b.WriteString(o.Path + o.Body)
	}
	return b.String()
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
