package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/kubed/internal/render"
)

const (
	// callTimeout is for questions: emulated machines that start everything at once take
	// seconds for an answer.
	callTimeout = 10 * time.Second
	// actTimeout is for what starts and stops programs, where PID 1 gives up after a
	// minute, and for each object that is put into the cluster.
	actTimeout = 75 * time.Second
	// figuresAge is how old the figures in an answer may be.
	figuresAge = time.Second

	// freshTimeout is how long somebody who asks how all are waits for those who have
	// not been asked for a while.
	freshTimeout = 2 * time.Second
	freshPoll    = 10 * time.Millisecond

	firstPoll = 100 * time.Millisecond // of who the machine is, until that is known
	lastPoll  = time.Minute            // of the configuration
)

// server has the engine, tells it what happens and does what it wants.
type server struct {
	peers   peers
	files   files
	cluster cluster
	log     *slog.Logger
	events  chan event
	doing   sync.WaitGroup // actions that have been begun
	wanted  chan struct{}  // closed when there is a cluster
	worked  func()         // told after each action

	mu     sync.Mutex // guards engine
	engine *engine

	asking  sync.Mutex // guards figures
	figures map[partName]*machine.Daemon
	figured time.Time
}

// event tells the engine something.
type event func(*engine, time.Time) []action

func newServer(p peers, f files, c cluster, log *slog.Logger) *server {
	was, err := f.readPin()
	if err != nil {
		log.Warn("it gets a new name", "error", err.Error())
	}
	worked, err := f.readWorked()
	if err != nil {
		log.Warn("no configuration is known to work", "error", err.Error())
	}
	return &server{peers: p, files: f, cluster: c, log: log, events: make(chan event), wanted: make(chan struct{}), engine: newEngine(time.Now(), was, worked), worked: func() {}}
}

// decide is the one goroutine that tells the engine what happens; what the engine
// wants is done beside it, and its end is told as everything else.
func (s *server) decide(ctx context.Context) error {
	defer s.doing.Wait()
	for {
		timer := time.NewTimer(s.untilWake())
		var next event
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case next = <-s.events:
			timer.Stop()
		case <-timer.C:
			next = (*engine).tick
		}
		for _, a := range s.step(next) {
			s.doing.Go(func() {
				if e := s.perform(ctx, a); e != nil {
					s.put(ctx, e)
				}
			})
		}
	}
}

func (s *server) untilWake() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.engine.wake(); !t.IsZero() {
		return time.Until(t)
	}
	return time.Hour
}

func (s *server) step(e event) []action {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.engine.summary()
	all := e(s.engine, time.Now())
	if after := s.engine.summary(); after != before {
		s.report(before, after, s.engine.view(time.Now()))
	}
	return all
}

// report logs what a person would want to find later: who became healthy or ill.
func (s *server) report(before, after summary, v view) {
	for i, p := range v.parts {
		if before.healthy[i] != after.healthy[i] || before.spared[i] != after.spared[i] {
			s.log.Info("component", "name", p.name, "healthy", p.healthy, "reason", p.reason)
		}
	}
	s.log.Info("node", "name", v.node, "address", v.address, "ready", v.ready(), "message", v.message)
}

func (s *server) put(ctx context.Context, e event) {
	select {
	case s.events <- e:
	case <-ctx.Done():
	}
}

// perform does one thing and returns how that went.
func (s *server) perform(ctx context.Context, a action) event {
	defer s.worked()
	timeout := actTimeout
	switch a.(type) {
	case check, askNode, look, inspect:
		timeout = callTimeout
	default:
		s.log.Info("do", "what", a.String())
	}
	switch a := a.(type) {
	case apply:
		timeout *= time.Duration(len(a.objects))
	case inspect:
		timeout *= time.Duration(len(a.objects))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	e, err := s.try(ctx, a)
	if err != nil {
		s.log.Warn("not done", "what", a.String(), "error", err.Error())
	}
	return e
}

func (s *server) try(ctx context.Context, a action) (event, error) {
	switch a := a.(type) {
	case keep:
		err := s.files.keepPin(a.pin)
		return func(e *engine, now time.Time) []action { return e.keptIt(now, a.pin, err) }, err
	case remember:
		err := s.files.keepWorked(a.worked)
		return func(e *engine, now time.Time) []action { return e.remembered(now, a.worked, err) }, err
	case prepare:
		err := plain(s.peers.prepare(ctx, a.wish))
		return func(e *engine, now time.Time) []action { return e.prepared(now, a.wish, err) }, err
	case run:
		err := plain(s.run(ctx, a.program))
		return func(e *engine, now time.Time) []action { return e.started(now, a.program, err) }, err
	case write:
		err := s.files.give(a.program)
		return func(e *engine, now time.Time) []action { return e.wrote(now, a.program, err) }, err
	case sweep:
		return nil, s.files.sweep(a.programs)
	case stop:
		_, err := s.peers.machine.StopProgram(ctx, &machine.StopProgramRequest{Name: string(a.name)})
		err = plain(err)
		return func(e *engine, now time.Time) []action { return e.stopped(now, a.name, err) }, err
	case restart:
		_, err := s.restart(ctx, a.name)
		err = plain(err)
		return func(e *engine, now time.Time) []action { return e.restarted(now, a.name, err) }, err
	case setAside:
		again, err := s.peers.setAside(ctx, a.name)
		err = plain(err)
		return func(e *engine, now time.Time) []action { return e.setItAside(now, a.name, again, err) }, err
	case apply:
		versions, err := eachVersion(ctx, actTimeout, a.objects, s.cluster.apply)
		return func(e *engine, now time.Time) []action { return e.appliedThem(now, a.objects, versions, err) }, err
	case inspect:
		versions, err := eachVersion(ctx, callTimeout, a.objects, s.cluster.version)
		return func(e *engine, now time.Time) []action { return e.inspected(now, a.objects, versions, err) }, err
	case label:
		err := s.cluster.label(ctx, a.node, a.pods)
		return func(e *engine, now time.Time) []action { return e.labelledIt(now, err) }, err
	case check:
		h := s.check(ctx, a.name)
		return func(e *engine, now time.Time) []action { return e.checkedIt(now, a.name, h) }, nil
	case askNode:
		n, err := s.cluster.node(ctx, a.node)
		return func(e *engine, now time.Time) []action { return e.nodeSeen(now, n, err) }, nil
	case look:
		asked := time.Now()
		all, err := s.look(ctx)
		full := s.files.full()
		return func(e *engine, now time.Time) []action { return e.seen(now, asked, all, full, err) }, nil
	}
	panic(fmt.Sprintf("BUG: unknown action %T", a))
}

func (s *server) run(ctx context.Context, p render.Program) error {
	if err := s.files.give(p); err != nil {
		return err
	}
	_, err := s.peers.machine.StartProgram(ctx, &machine.StartProgramRequest{Name: p.Name, Args: p.Args})
	return err
}

func (s *server) restart(ctx context.Context, name partName) (int32, error) {
	r, err := s.peers.machine.RestartDaemon(ctx, &machine.RestartDaemonRequest{Name: string(name)})
	return r.GetPid(), err
}

// eachVersion does something with each object, in order, and returns the versions that
// they have in the cluster.
func eachVersion(ctx context.Context, timeout time.Duration, all []render.Object, do func(context.Context, render.Object) (string, error)) (string, error) {
	var versions []string
	for _, o := range all {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		version, err := do(ctx, o)
		cancel()
		if err != nil {
			return "", err
		}
		versions = append(versions, version)
	}
	return strings.Join(versions, " "), nil
}

// check asks a part, or who answers for it, how it is.
func (s *server) check(ctx context.Context, name partName) health {
	var err error
	switch name {
	case "etcdd":
		err = s.peers.etcdStatus(ctx)
	case "containerd":
		err, _ = s.peers.runtimeStatus(ctx)
	case "podd":
		_, err = s.peers.runtimeStatus(ctx)
	default:
		err = s.cluster.check(ctx, name)
	}
	if err == nil {
		return health{}
	}
	return health{plain(err).Error(), errors.As(err, new(finishing))}
}

// daemons is what PID 1 says of all parts, not older than figuresAge. Many who ask at
// the same time wait for one answer.
func (s *server) daemons(ctx context.Context) (map[partName]*machine.Daemon, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if time.Since(s.figured) < figuresAge {
		return s.figures, nil
	}
	all, err := s.peers.daemons(ctx, whole)
	if err == nil {
		s.figures, s.figured = all, time.Now()
	}
	return all, err
}

func (s *server) look(ctx context.Context) (map[partName]process, error) {
	daemons, err := s.peers.daemons(ctx, brief)
	if err != nil {
		return nil, err
	}
	all := map[partName]process{}
	for name, d := range daemons {
		all[name] = process{d.State, d.Reason, d.Pid, d.Restarts}
	}
	return all, nil
}

// follow asks configd, soon again at first, then now and then.
func (s *server) follow(ctx context.Context) error {
	var last *settings
	for wait := firstPoll; ; wait = min(wait*2, lastPoll) {
		now, err := s.settings1(ctx)
		switch {
		case err != nil:
			s.log.Warn("ask for the configuration", "error", err.Error())
		case last == nil || !reflect.DeepEqual(*last, now):
			last = &now
			s.put(ctx, func(e *engine, t time.Time) []action { return e.configure(t, now) })
			if now.configured {
				s.want()
			}
		}
		if !pause(ctx, wait) {
			return nil
		}
	}
}

// want lets observe begin. follow alone calls it.
func (s *server) want() {
	select {
	case <-s.wanted:
	default:
		close(s.wanted)
	}
}

func (s *server) settings1(ctx context.Context) (settings, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.peers.settings(ctx)
}

// observe tells the engine who the machine is, for as long as there is a cluster.
func (s *server) observe(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.wanted:
	}
	for {
		wait := s.untilRound()
		f, err := s.facts1(ctx)
		if err != nil {
			s.log.Warn("observe the machine", "error", err.Error())
			wait = time.Second
		} else {
			s.put(ctx, func(e *engine, now time.Time) []action { return e.observe(now, f) })
			if len(f.addresses) == 0 || nodeName(f.hostname) == "" {
				wait = firstPoll
			}
		}
		if s.settled() {
			wait = max(wait, time.Second)
		}
		if !pause(ctx, wait) {
			return nil
		}
	}
}

// untilRound is how long the engine lets those rest that are well.
func (s *server) untilRound() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	return s.engine.round(now).Sub(now)
}

// settled says that the node knows who it is.
func (s *server) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.engine.node != nil
}

func (s *server) facts1(ctx context.Context) (facts, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.peers.facts(ctx)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// plain takes the code's name out of an error that is shown to people.
func plain(err error) error {
	if s, ok := status.FromError(err); ok && err != nil {
		return fmt.Errorf("%s", s.Message())
	}
	return err
}

// GetStatus implements kube.Server.
func (s *server) GetStatus(ctx context.Context, request *kube.GetStatusRequest) (*kube.GetStatusResponse, error) {
	if !request.Brief { // which is how the screen asks, all the time
		s.lookNow(ctx)
	}
	s.mu.Lock()
	v := s.engine.view(time.Now())
	s.mu.Unlock()
	r := &kube.GetStatusResponse{State: v.state, Configured: v.configured(), Message: v.message, Cluster: v.cluster, Node: v.node, Ready: v.ready()}
	if !r.Configured {
		return r, nil
	}
	if v.address.IsValid() {
		r.Address = v.address.String()
	}
	r.NodeReady, r.NodeReadyMs = v.nodeReady, v.nodeFor.Milliseconds()
	var daemons map[partName]*machine.Daemon
	if !request.Brief {
		daemons = s.figuresNow(ctx)
	}
	for _, p := range v.parts {
		c := &kube.Component{
			Name: string(p.name), State: p.state, Version: p.version, Healthy: p.healthy, SinceMs: p.since.Milliseconds(),
			Restarts: p.restarts, WaitingFor: p.waitingFor, Reason: p.reason,
		}
		if d := daemons[p.name]; d != nil {
			c.State, c.Pid, c.Uid, c.MemoryBytes, c.Restarts, c.SetAside = d.State, d.Pid, d.Uid, d.MemoryBytes, d.Restarts, d.SetAside
		}
		r.Components = append(r.Components, c)
	}
	return r, nil
}

// lookNow has all asked how they are, unless they just have been, and waits a moment for
// their answers.
func (s *server) lookNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	s.put(ctx, (*engine).watch)
	for asked := true; asked; {
		s.mu.Lock()
		asked = s.engine.asksAll()
		s.mu.Unlock()
		asked = asked && pause(ctx, freshPoll)
	}
}

// figuresNow is daemons, or nothing if PID 1 does not answer.
func (s *server) figuresNow(ctx context.Context) map[partName]*machine.Daemon {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	all, err := s.daemons(ctx)
	if err != nil {
		s.log.Warn("list daemons", "error", err.Error())
	}
	return all
}

// RestartComponent implements kube.Server.
func (s *server) RestartComponent(ctx context.Context, r *kube.RestartComponentRequest) (*kube.RestartComponentResponse, error) {
	s.mu.Lock()
	v := s.engine.view(time.Now())
	s.mu.Unlock()
	if !v.configured() {
		return nil, status.Error(codes.FailedPrecondition, v.message)
	}
	var names []string
	for _, p := range v.parts {
		if string(p.name) == r.Name {
			if p.waitingFor != "" {
				return nil, status.Errorf(codes.FailedPrecondition, "%s has not been started: it waits for %s", r.Name, p.waitingFor)
			}
			return s.restartByHand(ctx, p.name)
		}
		names = append(names, string(p.name))
	}
	return nil, status.Errorf(codes.NotFound, "no component %q: one of %s", r.Name, strings.Join(names, ", "))
}

func (s *server) restartByHand(ctx context.Context, name partName) (*kube.RestartComponentResponse, error) {
	s.log.Info("do", "what", "restart "+string(name)+": somebody asked for it")
	pid, err := s.restart(ctx, name)
	s.put(ctx, func(e *engine, now time.Time) []action { return e.restarted(now, name, err) })
	if err != nil {
		return nil, err
	}
	return &kube.RestartComponentResponse{Pid: pid}, nil
}

// GetKubeconfigInfo implements kube.Server.
func (s *server) GetKubeconfigInfo(context.Context, *kube.GetKubeconfigInfoRequest) (*kube.KubeconfigInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.engine.view(time.Now())
	if !v.configured() || s.engine.node == nil || s.engine.keys == "" {
		return nil, status.Error(codes.FailedPrecondition, v.message)
	}
	ca, err := s.files.authority()
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "the cluster's CA is not there yet: %v", err)
	}
	info := &kube.KubeconfigInfo{Cluster: v.cluster, Authority: ca}
	for _, a := range reached(v.address, s.engine.facts) {
		if a != localAddress || len(s.engine.facts.addresses) == 0 {
			info.Servers = append(info.Servers, fmt.Sprintf("https://%s:%d", a, render.APIPort))
		}
	}
	return info, nil
}
