package main

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dactyl-os/dactyl/daemons/abi"
	pb "github.com/dactyl-os/dactyl/ipc/machine"
)

// This file decides what happens to one daemon. It does nothing itself: step
// takes a unit, an event and the time, and returns the unit as it is then and
// what is to be done. tiers.go puts units together to a machine.

const (
	// minUptime is how long a process must live for its crash to count as new:
	// shorter and a crash loop resets its own back-off; longer and a daemon that
	// is killed now and then is kept waiting for no reason.
	minUptime = 2 * time.Second
	// foreignUptime is that of a program that does not say when it is ready: it
	// may well take its time to find out that it cannot start.
	foreignUptime = 30 * time.Second
	// patience is how many failures in a row are answered by starting again at
	// once.
	patience = 3
	// firstBackoff doubles with every further failure up to lastBackoff, which a
	// caller can still wait out.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
	// startTimeout is how long a daemon may take until it is ready: at boot all
	// start at once on a cold disk, and Kubernetes with them. Whoever is ended for
	// being slow makes it slower for everybody.
	startTimeout = time.Minute
	// farewell is how long the answer to a restart waits for the old process to
	// leave, so that the next call reaches the new one. No longer, since the old
	// process may be waiting for that very answer: routerd carries it.
	farewell = time.Second
)

// shuttingDown is what a restart fails with.
const shuttingDown = "the machine is shutting down"

// state is what a daemon is doing, as ListDaemons shows it.
type state = pb.DaemonState

const (
	down     = pb.DaemonState_DAEMON_STATE_DOWN
	idle     = pb.DaemonState_DAEMON_STATE_IDLE
	starting = pb.DaemonState_DAEMON_STATE_STARTING
	up       = pb.DaemonState_DAEMON_STATE_UP
	stopping = pb.DaemonState_DAEMON_STATE_STOPPING
	backoff  = pb.DaemonState_DAEMON_STATE_BACKOFF
	gaveUp   = pb.DaemonState_DAEMON_STATE_GAVE_UP
	done     = pb.DaemonState_DAEMON_STATE_DONE
)

// process is one incarnation of a daemon. The zero process is none.
type process struct {
	id     int       // 1 for a daemon's first
	binary string    // path on the machine
	since  time.Time // started
	ready  bool
	sign   time.Time     // last sign of life, once ready
	killBy time.Time     // SIGKILL is due; zero before SIGTERM
	killed string        // why SIGKILL was sent
	grace  time.Duration // from SIGTERM to SIGKILL
	mute   bool          // gives no signs of life
}

func (p process) exists() bool { return p.id != 0 }

// unit is one daemon. Copies share nothing that changes.
type unit struct {
	name    daemonName
	state   state
	reason  string    // why it is not up
	binary  string    // what a start starts: the last that became ready
	args    []string  // of StartProgram
	main    process   // serves, or will
	next    process   // started beside main, to take over from it
	leaving []process // told to stop, and not gone yet
	started int       // processes so far
	failed  int       // failures in a row
	retry   time.Time // in backoff: when to start again
	request int       // whose answer waits; 0 for none
	hurried bool      // the request is a restart
	settle  time.Time // when it is answered though the old process has not left; zero before
	then    follow    // in stopping: what comes when main has left
	coming  string    // binary that thenStart starts
	held    bool      // it must not start: the first process of its domain does not run
	conduct
}

type daemonName string

// conduct is what its manifest says of when and how a daemon runs.
type conduct struct {
	onRequest bool
	alone     bool          // never two processes side by side
	foreign   bool          // ready once it runs, and mute from then on
	grace     time.Duration // from SIGTERM to SIGKILL
	domain    daemonName    // whose namespaces it shares; its own name: it makes them
}

// follow is what comes after a process that was told to stop.
type follow int

const (
	thenDown follow = iota // the machine ends
	thenIdle
	thenStart
)

// event is something that happened to one daemon.
type event struct {
	what    eventKind
	id      int      // process; of ready, alive, exit, lost
	code    int      // of exit: exit code, or 128 + signal
	reason  string   // of lost: why no process could be made
	request int      // of restart, request, quit: whom to answer
	binary  string   // of restart
	args    []string // of request
}

type eventKind string

const (
	evStart   eventKind = "start"
	evReady   eventKind = "ready"
	evAlive   eventKind = "alive"
	evExit    eventKind = "exit"
	evLost    eventKind = "lost" // the process could not be made
	evTick    eventKind = "tick"
	evRestart eventKind = "restart"
	evStop    eventKind = "stop"
	evRequest eventKind = "request" // StartProgram
	evQuit    eventKind = "quit"    // StopProgram
	evHold    eventKind = "hold"    // the first process of its domain does not run any more
	evRelease eventKind = "release" // it does again
)

// action is something to do, in order.
type action struct {
	what   actionKind
	name   daemonName
	id     int      // process; of launch, term, kill
	binary string   // of launch
	args   []string // of launch
	answer answer
}

type actionKind string

const (
	actLaunch actionKind = "launch"
	actTerm   actionKind = "term"   // SIGTERM
	actKill   actionKind = "kill"   // SIGKILL
	actRefuse actionKind = "refuse" // close its sockets: nobody will answer
	actListen actionKind = "listen" // open them again
	actAnswer actionKind = "answer"
	actReport actionKind = "report" // tell the log
	actHalt   actionKind = "halt"   // all daemons are down
)

// answer ends a request.
type answer struct {
	request int
	code    codes.Code // OK: process id does what was asked for
	reason  string
}

// doing is a step under way.
type doing struct {
	unit
	now     time.Time
	actions []action
}

// step is all there is to supervising one daemon.
func step(u unit, e event, now time.Time) (unit, []action) {
	d := &doing{unit: u, now: now}
	switch e.what {
	case evStart:
		d.boot()
	case evReady:
		d.becameReady(e.id)
	case evAlive:
		d.touch(e.id)
	case evLost:
		d.ended(e.id, abi.ExitTemporary, e.reason)
	case evExit:
		d.ended(e.id, e.code, d.describeExit(e.code))
	case evTick:
		d.tick()
	case evRestart:
		d.restart(e.request, e.binary)
	case evStop:
		d.stop()
	case evRequest:
		d.want(e.request, e.args)
	case evQuit:
		d.quit(e.request)
	case evHold:
		d.held = true
	case evRelease:
		d.release()
	}
	return d.unit, d.actions
}

// boot starts the daemon, or has those refused who call what runs only on request.
func (d *doing) boot() {
	switch d.state {
	case idle:
		d.rest(idle)
	case down:
		d.start(d.binary)
	}
}

func (d *doing) act(a action) {
	a.name = d.name
	d.actions = append(d.actions, a)
}

func (d *doing) report(format string, args ...any) {
	d.act(action{what: actReport, answer: answer{reason: fmt.Sprintf(format, args...)}})
}

func (d *doing) launch(binary string) process {
	d.started++
	d.act(action{what: actLaunch, id: d.started, binary: binary, args: d.args})
	return process{id: d.started, binary: binary, since: d.now, grace: d.grace, mute: d.foreign}
}

func (d *doing) start(binary string) {
	if d.held {
		d.wait()
		return
	}
	d.main = d.launch(binary)
	d.state = starting
}

func (d *doing) becameReady(id int) {
	switch {
	case id == 0:
		return
	case id == d.next.id:
		d.dismiss(d.main)
		d.main, d.next = d.next, process{}
		d.settle = d.now.Add(farewell)
	case id != d.main.id || d.main.ready:
		return
	case d.state != stopping:
		d.reply(codes.OK, "")
	}
	d.main.ready, d.main.sign = true, d.now
	d.binary = d.main.binary
	if d.state != stopping {
		d.state, d.reason = up, ""
	}
}

// settled answers a restart whose new process has taken over.
func (d *doing) settled() {
	if !d.settle.IsZero() && (len(d.leaving) == 0 || due(d.settle, d.now)) {
		d.reply(codes.OK, "")
	}
}

// dismiss tells a process to finish and lets it leave.
func (d *doing) dismiss(p process) {
	if p.exists() {
		p.killBy = d.now.Add(d.grace)
		d.leaving = append(slices.Clone(d.leaving), p)
		d.act(action{what: actTerm, id: p.id})
	}
}

// kill ends a process that nothing is waiting for any more.
func (d *doing) kill(p process, reason string) {
	if p.exists() {
		p.killed = reason
		d.leaving = append(slices.Clone(d.leaving), p)
		d.act(action{what: actKill, id: p.id})
	}
}

func (d *doing) touch(id int) {
	if id == d.main.id && d.main.ready {
		d.main.sign = d.now
	}
}

func (d *doing) ended(id, code int, reason string) {
	if i := slices.IndexFunc(d.leaving, func(p process) bool { return p.id == id }); i >= 0 {
		d.leaving = slices.Delete(slices.Clone(d.leaving), i, i+1)
		d.settled()
		return
	}
	switch {
	case id == 0:
	case id == d.next.id:
		d.next = process{}
		d.reply(codes.Aborted, reason)
	case id == d.main.id:
		d.mainEnded(code, reason)
	}
}

func (d *doing) mainEnded(code int, reason string) {
	p := d.main
	d.main = process{}
	if p.killed != "" {
		reason = p.killed
	}
	if d.state == stopping {
		d.left()
		return
	}
	d.report("process %d ended: %s", p.id, reason)
	d.reason = reason
	if d.next.exists() {
		d.main, d.next = d.next, process{}
		d.state = starting
		return
	}
	d.reply(codes.Aborted, reason)
	switch {
	case d.foreign: // its codes mean nothing to us
		d.again(p)
	case code == abi.ExitDone || code == abi.ExitUnwanted:
		d.rest(done)
	case code == abi.ExitMisconfigured:
		d.rest(gaveUp)
	default:
		d.again(p)
	}
}

// rest leaves the daemon without a process until a person asks for one.
func (d *doing) rest(s state) {
	d.state = s
	d.act(action{what: actRefuse})
}

// again starts the daemon after a failure, at once or later.
func (d *doing) again(p process) {
	if p.ready && d.now.Sub(p.since) >= d.enough() {
		d.failed = 0
	}
	if d.failed++; d.failed <= patience {
		d.start(d.binary)
		return
	}
	wait := lastBackoff
	if doublings := d.failed - patience - 1; doublings < 10 {
		wait = min(lastBackoff, firstBackoff<<doublings)
	}
	d.state, d.retry = backoff, d.now.Add(wait)
	d.report("wait %v", wait)
}

// enough is how long a process must have lived for its end to be the first.
func (u unit) enough() time.Duration {
	if u.foreign {
		return foreignUptime
	}
	return minUptime
}

func (d *doing) restart(request int, binary string) {
	if d.request != 0 || d.state == idle {
		d.decline(request)
		return
	}
	d.request, d.hurried = request, true
	switch {
	case d.alone && d.main.exists():
		d.coming = binary
		d.leave(thenStart)
		return
	case d.state == up:
		d.next = d.launch(binary)
		return
	}
	d.listen()
	d.kill(d.main, "restart requested")
	d.start(binary)
}

// listen opens the sockets that rest and idle have shut.
func (d *doing) listen() {
	if d.state == gaveUp || d.state == done || d.state == idle {
		d.act(action{what: actListen})
	}
}

func (d *doing) reply(code codes.Code, reason string) {
	if d.request != 0 {
		d.act(action{what: actAnswer, id: d.main.id, answer: answer{d.request, code, reason}})
		d.request, d.settle = 0, time.Time{}
	}
}

func (d *doing) stop() {
	d.dropNext(shuttingDown)
	if !d.settle.IsZero() {
		d.reply(codes.OK, "")
	}
	d.reply(codes.FailedPrecondition, shuttingDown)
	d.leave(thenDown)
}

// dropNext ends the process that was to take over.
func (d *doing) dropNext(reason string) {
	d.kill(d.next, reason)
	d.next = process{}
}

// leave tells main to stop, unless it has been told, and says what is to follow.
func (d *doing) leave(then follow) {
	d.then = then
	switch {
	case d.state == stopping:
	case d.main.exists():
		d.state = stopping
		d.main.killBy = d.now.Add(d.grace)
		d.act(action{what: actTerm, id: d.main.id})
	default:
		d.left()
	}
}

// left goes on when the process that was told to stop is gone.
func (d *doing) left() {
	switch d.then {
	case thenDown:
		d.state = down
	case thenIdle:
		d.reason, d.args, d.failed = "", nil, 0
		d.rest(idle)
		d.reply(codes.OK, "")
	case thenStart:
		d.failed = 0
		d.start(d.coming)
	}
}

func (d *doing) tick() {
	if at, reason := d.main.deadline(d.awaited()); due(at, d.now) {
		d.main.killed, d.reason = reason, reason
		d.act(action{what: actKill, id: d.main.id})
		if d.state != stopping {
			d.reply(codes.DeadlineExceeded, reason)
		}
	}
	if at, reason := d.next.deadline(true); due(at, d.now) {
		d.reply(codes.DeadlineExceeded, reason)
		d.kill(d.next, reason)
		d.next = process{}
	}
	for i, p := range d.leaving {
		if at, reason := p.deadline(false); due(at, d.now) {
			d.leaving = slices.Clone(d.leaving)
			d.leaving[i].killed = reason
			d.act(action{what: actKill, id: p.id})
		}
	}
	if d.state == backoff && due(d.retry, d.now) {
		d.start(d.binary)
	}
	d.settled()
}

// awaited says whether a restart waits for main to be ready.
func (u unit) awaited() bool { return u.request != 0 && u.hurried && !u.next.exists() }

func due(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// deadline returns when the process is to be killed, and why. Somebody who
// waits for it to be ready waits less long than a boot does.
func (p process) deadline(awaited bool) (time.Time, string) {
	switch {
	case !p.exists() || p.killed != "":
		return time.Time{}, ""
	case !p.killBy.IsZero():
		return p.killBy, fmt.Sprintf("still there %v after SIGTERM", p.grace)
	case p.ready && p.mute:
		return time.Time{}, ""
	case p.ready:
		return p.sign.Add(abi.WatchdogTimeout), fmt.Sprintf("no sign of life for %v", abi.WatchdogTimeout)
	case awaited:
		return p.since.Add(abi.ReadyTimeout), fmt.Sprintf("not ready after %v", abi.ReadyTimeout)
	}
	return p.since.Add(startTimeout), fmt.Sprintf("not ready after %v", startTimeout)
}

// wake returns when the unit next wants a tick; zero for never.
func (u unit) wake() time.Time {
	at, _ := u.main.deadline(u.awaited())
	next, _ := u.next.deadline(true)
	at = earlier(at, next)
	for _, p := range u.leaving {
		gone, _ := p.deadline(false)
		at = earlier(at, gone)
	}
	if u.state == backoff {
		at = earlier(at, u.retry)
	}
	return earlier(at, u.settle)
}

// earlier returns the first of two moments, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (u unit) describeExit(code int) string {
	switch {
	case code > 128:
		return fmt.Sprintf("signal %d (%v)", code-128, syscall.Signal(code-128))
	case u.foreign:
	case code == abi.ExitDone:
		return "finished"
	case code == abi.ExitMisconfigured:
		return "misconfigured"
	case code == abi.ExitUnwanted:
		return "not wanted on this machine"
	case code == abi.ExitTemporary:
		return "temporary failure"
	}
	return fmt.Sprintf("exit code %d", code)
}
