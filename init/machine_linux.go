package main

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/daemons/kit/footprint"
)

// machine carries out what fleet decides. All of it belongs to the goroutine of
// supervise; others hand it functions through jobs.
type machine struct {
	system   *abi.System
	log      journal
	ownLog   logPipe
	launcher *launcher

	fleet     *fleet
	daemons   map[daemonName]*daemon
	jobs      chan func()
	waiting   map[int]chan<- outcome  // requests by number
	requests  int                     // last number given
	launching int                     // launches under way
	early     map[int]unix.WaitStatus // ends of processes that a launch under way may have made
	pids      map[int]*child          // running processes of daemons
	making    map[int]making          // processes whose program is not reached yet, if another process can keep them from it
	ending    ending                  // how the machine ends, once fleet.ending
	ends      atomic.Bool             // fleet.ending, for those who serve
}

// daemon is what PID 1 keeps for one across its processes.
type daemon struct {
	abi.Daemon
	log      logPipe
	doors    []*door
	listens  []listenSocket
	children map[int]*child // by id of the process
}

type listenSocket struct {
	name string
	fd   int
}

// outcome is what a request comes to.
type outcome struct {
	answer
	pid int
}

func newMachine(s *abi.System, log journal, own logPipe, native bool) (*machine, error) {
	m := &machine{
		system: s, log: log, ownLog: own,
		daemons: map[daemonName]*daemon{},
		jobs:    make(chan func()),
		waiting: map[int]chan<- outcome{},
		early:   map[int]unix.WaitStatus{},
		pids:    map[int]*child{},
		making:  map[int]making{},
	}
	var err error
	if m.launcher, err = newLauncher(s, native, log.warn); err != nil {
		return nil, err
	}
	if err := makeShares(s); err != nil {
		return nil, err
	}
	var cast []daemonTier
	mounted := mountPoints(s)
	for _, d := range s.Daemons {
		kept, err := m.newDaemon(d)
		if err != nil {
			return nil, fmt.Errorf("daemon %s: %w", d.Name, err)
		}
		m.daemons[daemonName(d.Name)] = kept
		cast = append(cast, tierOf(d, mounted))
	}
	m.fleet = newFleet(cast)
	return m, nil
}

// mountPoints are the directories on which daemons mount for the whole machine.
func mountPoints(s *abi.System) []string {
	var all []string
	for _, d := range s.Daemons {
		all = append(all, d.Mount...)
	}
	return all
}

// tierOf is what the fleet must know of d, where others mount on mounted.
func tierOf(d abi.Daemon, mounted []string) daemonTier {
	needs := func(path string) bool {
		return slices.ContainsFunc(mounted, func(m string) bool { return within(path, m) || within(m, path) })
	}
	return daemonTier{
		name: daemonName(d.Name), tier: d.Tier, binary: binaryOf(d), mounts: len(d.Mount) > 0,
		free: !slices.ContainsFunc(slices.Concat(d.Read, d.Write), needs),
		last: d.Last,
		conduct: conduct{
			onRequest: d.OnRequest, alone: d.Alone, foreign: d.Foreign != nil,
			grace: time.Duration(d.Limits.StopSeconds) * time.Second, domain: daemonName(d.Domain),
		},
	}
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// binaryOf is the file of the image that d is.
func binaryOf(d abi.Daemon) string {
	if d.Foreign != nil {
		return d.Foreign.Program
	}
	return d.Exec
}

// newDaemon makes what outlives a daemon's processes.
func (m *machine) newDaemon(d abi.Daemon) (*daemon, error) {
	kept := &daemon{Daemon: d, children: map[int]*child{}}
	var err error
	if kept.log, err = newLogPipe(); err != nil {
		return nil, err
	}
	for _, c := range d.Callers {
		door := &door{caller: c, user: userOf(m.system, c.Name), fd: shutFD}
		if err := door.open(); err != nil {
			return nil, err
		}
		kept.doors = append(kept.doors, door)
	}
	for _, l := range d.Listen {
		fd, err := bindListen(l)
		if err != nil {
			// Its port is no reason for the rest not to boot; it will complain.
			m.log.warn("%s: %v", d.Name, err)
			continue
		}
		kept.listens = append(kept.listens, listenSocket{listenName(l), fd})
	}
	return kept, nil
}

// listenName is what the daemon's manifest calls the socket: tcp:7400.
func listenName(l abi.Listen) string {
	return l.Network + ":" + strings.TrimPrefix(l.Address, ":")
}

// inherited lists what every process of d gets.
func (m *machine) inherited(d *daemon) inherited {
	in := inherited{log: d.log.write}
	give := func(fd int, what abi.Descriptor) {
		in.descriptors = append(in.descriptors, what)
		in.fds = append(in.fds, fd)
	}
	for _, door := range d.doors {
		if door.fd != shutFD {
			give(door.fd, abi.Descriptor{Kind: abi.IPCSocket, Name: door.caller.Name, Service: door.caller.Service})
		}
	}
	for _, l := range d.listens {
		give(l.fd, abi.Descriptor{Kind: abi.NetworkSocket, Name: l.name})
	}
	if d.Logs {
		give(m.ownLog.read, abi.Descriptor{Kind: abi.LogPipe, Name: "init"})
		for _, other := range m.system.Daemons {
			give(m.daemons[daemonName(other.Name)].log.read, abi.Descriptor{Kind: abi.LogPipe, Name: other.Name})
		}
	}
	return in
}

// restInterval is how often PID 1, which has nothing to do once all is up, gives
// its program's pages back.
const restInterval = abi.WatchdogInterval

// supervise boots all tiers and sees to them until the machine is to end.
func (m *machine) supervise() ending {
	children := make(chan os.Signal, 1) // one is enough: reap takes all
	signal.Notify(children, unix.SIGCHLD)
	orders := make(chan os.Signal, 1)
	signal.Notify(orders, unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	clock := time.NewTimer(0)
	rest := time.NewTicker(restInterval)
	defer rest.Stop()
	var keeper footprint.Keeper
	m.perform(m.fleet.boot(time.Now()))
	for !m.fleet.halted {
		if at := m.fleet.wake(); at.IsZero() {
			clock.Stop()
		} else {
			clock.Reset(time.Until(at))
		}
		select {
		case <-children:
			m.reap()
		case s := <-orders:
			m.ordered(s)
		case job := <-m.jobs:
			job()
		case <-clock.C:
			m.perform(m.fleet.tick(time.Now()))
		case <-rest.C:
			keeper.Shrink()
		}
	}
	m.launcher.groups.close()
	return m.ending
}

// ordered ends the machine as a signal says: SIGINT is ctrl-alt-del.
func (m *machine) ordered(s os.Signal) {
	if s == unix.SIGINT {
		m.end(reboot)
		return
	}
	m.end(powerOff)
}

// end begins to stop everything; the first to ask decides how it ends.
func (m *machine) end(how ending) {
	if !m.fleet.ending {
		m.ending = how
		m.ends.Store(true)
		m.log.info("stop all daemons to %v", how)
	}
	m.perform(m.fleet.end(time.Now()))
}

func (m *machine) handle(name daemonName, e event) {
	m.perform(m.fleet.handle(name, e, time.Now()))
}

func (m *machine) perform(actions []action) {
	for _, a := range actions {
		d := m.daemons[a.name]
		switch a.what {
		case actLaunch:
			m.launch(d, a)
		case actTerm:
			m.signal(d, a.id, unix.SIGTERM)
		case actKill:
			m.signal(d, a.id, unix.SIGKILL)
		case actRefuse:
			m.refuse(d)
		case actListen:
			m.listen(d)
		case actAnswer:
			m.answer(d, a)
		case actReport:
			m.log.warn("%s: %s", a.name, a.answer.reason)
		case actHalt:
			m.log.info("all daemons are down")
		}
	}
}

// domainOf returns a pidfd of the first process of the domain that d is to enter, to be
// closed, or noDomain.
func (m *machine) domainOf(d abi.Daemon) (int, error) {
	if !inhabits(d) {
		return noDomain, nil
	}
	first := daemonName(d.Domain)
	c := m.daemons[first].children[m.fleet.unit(first).main.id]
	if c == nil || c.pid == 0 {
		return noDomain, fmt.Errorf("%s does not run", first)
	}
	return enterDomain(c.pid)
}

func (m *machine) refuse(d *daemon) {
	for _, door := range d.doors {
		door.shut()
	}
}

func (m *machine) listen(d *daemon) {
	for _, door := range d.doors {
		if err := door.open(); err != nil {
			m.log.warn("%s: %v", d.Name, err)
		}
	}
}

func (m *machine) answer(d *daemon, a action) {
	o := outcome{answer: a.answer}
	if c := d.children[a.id]; c != nil {
		o.pid = c.pid
	}
	m.waiting[a.answer.request] <- o
	delete(m.waiting, a.answer.request)
}
