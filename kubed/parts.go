package main

import (
	"time"

	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

// partName is a component's name, and PID 1's name of its program.
type partName string

// need is what must be before a part is started.
type need struct {
	name partName
	only readiness
}

// readiness says how far a part that is needed must be.
type readiness int

const (
	healthy readiness = iota // its health check says yes
	almost                   // it works; what it still does concerns others
	running                  // PID 1 has been asked for it
)

// objects is needed like a part: what kubed itself puts into the cluster.
const objects partName = "objects"

// specification is what is fixed of a part.
type specification struct {
	name    partName
	needs   []need
	via     partName // who tells whether it is healthy, if it cannot be asked itself
	checked bool     // it has a health check; one without is healthy while it runs
	own     bool     // it is of this house: PID 1 itself notices if it hangs
	data    bool     // it has directories that PID 1 can set aside
	version string   // that is in this image; empty: it tells itself
}

// specifications are all parts in the order in which they start, the same as render's.
// A part's needs stand before it, and order comes of them alone: nothing here waits
// for a time.
var specifications = []specification{
	{name: "etcdd", checked: true, own: true},
	{name: "pods"},
	{name: "containerd", needs: []need{{"pods", running}}, via: "podd", checked: true, data: true, version: render.ContainerdVersion},
	{name: "podd", needs: []need{{"containerd", running}}, checked: true, own: true},
	{name: "kube-apiserver", needs: []need{{"etcdd", healthy}}, checked: true, version: render.KubernetesVersion},
	{name: "kube-controller-manager", needs: []need{{"kube-apiserver", healthy}}, checked: true, version: render.KubernetesVersion},
	{name: "kube-scheduler", needs: []need{{"kube-apiserver", healthy}}, checked: true, version: render.KubernetesVersion},
	{name: "kubelet", needs: []need{{"containerd", healthy}, {"kube-apiserver", almost}}, checked: true, data: true, version: render.KubernetesVersion},
	{name: "kube-proxy", needs: []need{{"pods", running}, {"kube-apiserver", healthy}}, checked: true, version: render.KubernetesVersion},
	{name: "coredns", needs: []need{{"kube-apiserver", healthy}, {objects, healthy}}, checked: true, version: render.CoreDNSVersion},
}

const (
	// startLimit is how long a part may take from its start until it is healthy for the
	// first time before it counts as hung, and from when it almost is until it is: an
	// emulated machine with one processor needs two minutes for the API server, and
	// more than five beside another machine on a slow host.
	startLimit = 10 * time.Minute
	// maxDoublings of startLimit, one for each try that was in vain: on a machine that
	// has far too much to do, whoever is ended for being slow never gets anywhere.
	maxDoublings = 2
	// hungLimit is the same for a part that has been healthy: longer than a machine that
	// starts many pods at once has nothing left for its health check. A part that really
	// hangs is rare, and its start is the last thing that a busy machine needs.
	hungLimit = 3 * time.Minute

	// While a part is coming, kubed looks often, as every look too late makes the machine
	// ready later; but where an answer takes long, the machine is busy with better
	// things, and the next question waits longer.
	quickLook  = 100 * time.Millisecond
	slowLook   = time.Second
	coming     = 2 * time.Minute
	healthLook = 10 * time.Second // at one that is healthy
	// calmLook is the same when nothing has changed, and nobody asked, for calming.
	calmLook = 30 * time.Second
	calming  = time.Minute

	// againLook is between two looks at what PID 1 says: a part itself is asked sooner.
	againLook = 500 * time.Millisecond

	// doubts is how many health checks in a row must fail of a part that was healthy.
	doubts = 3
)

// process is what PID 1 says of a part.
type process struct {
	state    machine.DaemonState
	reason   string
	pid      int32
	restarts uint32
}

// part is a component as kubed knows it.
type part struct {
	specification

	process process
	asked   string // the flags that PID 1 was asked to run it with; "" if it was not
	wrote   string // the texts of its live files
	starts  job
	writes  job
	stops   job
	restart job
	begun   time.Time // of its process, as far as known
	hung    int       // how often it was started anew for hanging since it was healthy

	goodStarts uint32 // process.restarts when starts last counted as good
	recount    bool   // starts count from what PID 1 says next
	repair     job
	repaired   bool // its directories have been set aside in this boot

	checks  job
	failed  int       // checks in a row
	healthy bool      // as of now
	almost  bool      // or nearly
	nearer  time.Time // when it last became almost healthy
	proven  bool      // it has been, since begun
	since   time.Time // of healthy, or not
	problem string    // why not
}

func (p *part) set(now time.Time, healthy, almost bool, problem string) {
	p.problem = problem
	if p.healthy != healthy {
		p.healthy, p.since = healthy, now
	}
	if almost && !p.almost {
		p.nearer = now
	}
	p.almost = almost
	p.proven = p.proven || healthy
	if healthy {
		p.hung = 0
	}
}

// began says that it has a new process.
func (p *part) began(now time.Time, why string) {
	p.begun, p.proven, p.failed = now, false, 0
	p.set(now, false, false, why)
	p.checks.due = now
}

// health is the answer of a part that was asked how it is.
type health struct {
	problem string // in a sentence; none: it is healthy
	almost  bool   // it works all the same
}

// checkedIt takes what a health check said; again is when a healthy part is asked next.
func (p *part) checkedIt(now, again time.Time, h health) {
	p.checks.busy = false
	if h.problem == "" {
		p.failed = 0
		p.set(now, true, true, "")
		p.checks.due = again
		return
	}
	p.failed++
	if !p.healthy || p.failed >= doubts {
		p.set(now, false, h.almost, h.problem)
	}
	if !p.proven && now.Sub(p.begun) < coming {
		p.checks.due = now.Add(p.checks.soon(now))
	} else {
		p.checks.due = now.Add(slowLook)
	}
}

// job is something that takes a while and is done one at a time.
type job struct {
	busy   bool
	begun  time.Time
	due    time.Time
	failed int
}

func (j *job) may(now time.Time) bool { return !j.busy && !now.Before(j.due) }

func (j *job) begin(now time.Time) { j.busy, j.begun = true, now }

// soon is how long to wait before a question is asked again: twice as long as the
// answer took.
func (j *job) soon(now time.Time) time.Duration {
	return min(max(quickLook, 2*now.Sub(j.begun)), 3*slowLook)
}

const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 15 * time.Second
)

// done ends it; one that failed is due again later each time.
func (j *job) done(now time.Time, err error) {
	j.busy = false
	if err == nil {
		j.failed, j.due = 0, now
		return
	}
	j.due = now.Add(min(firstRetry<<min(j.failed, 10), lastRetry))
	j.failed++
}
