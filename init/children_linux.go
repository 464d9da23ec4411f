package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// This file follows the processes of daemons from launch to reaping.

// child is one process of a daemon.
type child struct {
	daemon   *daemon
	id       int
	pid      int // 0 while it is launched
	making   int // while it is launched: pid of the process that is on its way to the program, 0 for none
	since    time.Time
	notify   *os.File
	doomed   unix.Signal // to be sent as soon as there is a pid
	lost     error       // why the program was never reached
	landlock int         // as its ready line says
}

// launch starts a process without keeping the others waiting: a path of its may
// be on a slow disk.
func (m *machine) launch(d *daemon, a action) {
	c := &child{daemon: d, id: a.id, since: time.Now()}
	d.children[a.id] = c
	o := order{Daemon: d.Daemon, id: a.id, binary: a.binary, args: a.args, inherited: m.inherited(d)}
	o.started = func(pid int, ended func()) { m.jobs <- func() { m.started(making{pid, c, ended}) } }
	m.launching++
	domain, err := m.domainOf(d.Daemon)
	go func() {
		var pid int
		var notify *os.File
		if err == nil {
			o.domain = domain
			pid, notify, err = m.launcher.launch(o)
		}
		m.jobs <- func() { m.launched(c, pid, notify, err) }
	}()
}

// making is a process on its way to its program.
type making struct {
	pid   int
	child *child
	ended func() // to be called when it has been reaped
}

// started notes a process that the root of a domain may keep from its program, for ever if
// nothing kills it.
func (m *machine) started(p making) {
	if _, ended := m.early[p.pid]; ended {
		p.ended()
		return
	}
	m.making[p.pid] = p
	p.child.making = p.pid
	if p.child.doomed == unix.SIGKILL {
		unix.Kill(p.pid, unix.SIGKILL)
	}
}

func (m *machine) launched(c *child, pid int, notify *os.File, err error) {
	m.launching--
	delete(m.making, c.making)
	c.pid, c.notify, c.lost, c.making = pid, notify, err, 0
	status, ended := m.early[pid]
	if m.launching == 0 {
		clear(m.early)
	}
	if pid == 0 {
		m.forget(c)
		m.handle(daemonName(c.daemon.Name), event{what: evLost, id: c.id, reason: err.Error()})
		return
	}
	m.pids[pid] = c
	if notify != nil {
		go m.follow(c, notify)
	}
	switch { // it has not been reaped, so the pid is still its own
	case ended:
	case err != nil: // it has ended or does not get further
		unix.Kill(pid, unix.SIGKILL)
	case c.doomed != 0:
		unix.Kill(pid, c.doomed)
	}
	if err == nil && c.daemon.Foreign != nil {
		m.handle(daemonName(c.daemon.Name), event{what: evReady, id: c.id})
	}
	if ended {
		m.ended(pid, status)
	}
}

// signal sends a signal to a process, now or when it is there.
func (m *machine) signal(d *daemon, id int, s unix.Signal) {
	c := d.children[id]
	switch {
	case c == nil:
	case c.pid == 0:
		c.doomed = s
		if c.making != 0 && s == unix.SIGKILL {
			unix.Kill(c.making, s)
		}
	default:
		// It has not been reaped, so the pid is still its own.
		unix.Kill(c.pid, s)
	}
}

// reap collects every process that has ended, orphans of daemons included.
func (m *machine) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		m.ended(pid, status)
	}
}

func (m *machine) ended(pid int, status unix.WaitStatus) {
	if p, ok := m.making[pid]; ok {
		delete(m.making, pid)
		p.child.making = 0
		p.ended()
	}
	c := m.pids[pid]
	if c == nil {
		if m.launching > 0 {
			m.early[pid] = status
		}
		return
	}
	delete(m.pids, pid)
	m.forget(c)
	e := event{what: evExit, id: c.id, code: exitCode(status)}
	if c.lost != nil {
		e = event{what: evLost, id: c.id, reason: c.lost.Error()}
	}
	m.handle(daemonName(c.daemon.Name), e)
}

func (m *machine) forget(c *child) {
	delete(c.daemon.children, c.id)
	if c.notify != nil {
		c.notify.Close()
	}
	if err := m.launcher.groups.remove(c.daemon.Daemon, c.id); err != nil {
		m.log.warn("%s: %v", c.daemon.Name, err)
	}
}

func exitCode(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// signThrottle is how often a process is heard: one that writes without end fills its
// pipe and waits, whether its text has newlines or not, and whether it comes in large pieces
// or single bytes.
const signThrottle = 100 * time.Millisecond

// throttled reads at most once in signThrottle. Its first read, which is the ready line,
// does not wait.
type throttled struct {
	from  io.Reader
	began bool
}

func (t *throttled) Read(p []byte) (int, error) {
	if t.began {
		time.Sleep(signThrottle)
	}
	t.began = true
	return t.from.Read(p)
}

// follow reads what a process reports of itself until it is gone. All of it is untrusted text.
func (m *machine) follow(c *child, notify io.Reader) {
	lines := bufio.NewReaderSize(&throttled{from: notify}, 4096)
	ready := false
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull): // no line that we know is this long
		case err != nil:
			return
		case !ready:
			ready = true
			landlock := landlockOf(line)
			m.jobs <- func() {
				c.landlock = landlock
				m.handle(daemonName(c.daemon.Name), event{what: evReady, id: c.id})
			}
		default:
			m.jobs <- func() { m.handle(daemonName(c.daemon.Name), event{what: evAlive, id: c.id}) }
			_, _ = lines.Discard(lines.Buffered()) // more signs say no more
		}
	}
}

// landlockOf finds landlock=N in a ready line.
func landlockOf(line []byte) int {
	for word := range bytes.FieldsSeq(line) {
		if value, ok := strings.CutPrefix(string(word), "landlock="); ok {
			if n, err := strconv.ParseUint(value, 10, 16); err == nil {
				return int(n)
			}
		}
	}
	return 0
}
