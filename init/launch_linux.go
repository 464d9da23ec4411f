package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

const (
	// daemonOOMScore has the kernel look for memory among pods first.
	daemonOOMScore = "-900"
	// openFiles is enough for thousands of connections and small enough that a
	// leak is noticed.
	openFiles = 4096
)

// launcher makes processes of daemons. It is used by several goroutines and
// changes nothing of its own.
type launcher struct {
	system    *abi.System
	native    bool
	groups    *cgroups
	dirs      *ephemeralDirs
	members   *memberPages
	proc      int // descriptor of /proc
	null      int // of /dev/null
	own       capabilitySet
	lastRight int
}

func newLauncher(s *abi.System, native bool, warn func(string, ...any)) (*launcher, error) {
	l := &launcher{system: s, native: native, dirs: newEphemeralDirs(warn)}
	var err error
	if l.groups, err = newCgroups(native, warn); err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	threads, err := readInt("/proc/sys/kernel/threads-max")
	if err != nil {
		return nil, err
	}
	l.groups.pods = domainThreads(s, int64(threads))
	if l.members, err = newMemberPages(); err != nil {
		return nil, err
	}
	if l.proc, err = openHigh("/proc", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return nil, err
	}
	if l.null, err = openHigh("/dev/null", unix.O_RDWR); err != nil {
		return nil, err
	}
	if l.own, err = ownCapabilities(); err != nil {
		return nil, err
	}
	if l.lastRight, err = readInt("/proc/sys/kernel/cap_last_cap"); err != nil {
		return nil, err
	}
	return l, nil
}

// inherited is what a daemon gets from PID 1: its log, and the descriptors that
// its Spec names.
type inherited struct {
	log         int
	descriptors []abi.Descriptor
	fds         []int
}

// order is what it takes to make a process.
type order struct {
	abi.Daemon
	id     int
	binary string
	args   []string // after those that it always has
	domain int      // pidfd of the first process of the domain to enter, or noDomain
	inherited
	started started
}

// noDomain is the domain of a process that enters none.
const noDomain = -1

// enterDomain returns a pidfd of a domain's first process.
func enterDomain(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return noDomain, fmt.Errorf("pidfd of a domain: %w", err)
	}
	defer unix.Close(fd)
	return aboveAll(fd)
}

// launch makes a process. The read end of its notify pipe is the caller's, or nil
// where there is none; a pid that is not 0 must be reaped even if there is an error.
func (l *launcher) launch(o order) (pid int, notify *os.File, err error) {
	spec, err := json.Marshal(abi.Spec{Daemon: o.Daemon, Mode: l.system.Mode, Version: l.system.Version, Epoch: l.system.Epoch, Descriptors: o.descriptors})
	if err != nil {
		return 0, nil, err
	}
	b := l.blueprint(o, spec)
	if o.domain != noDomain {
		defer unix.Close(o.domain)
		b.first = o.domain
	} else {
		root, err := l.root(o)
		if err != nil {
			return 0, nil, err
		}
		defer root.close()
		b.root, b.mounts = root.fd, root.mounts
	}
	give := []int{l.null, o.log, o.log}
	if o.Foreign == nil {
		var notifier *os.File
		if notify, notifier, err = os.Pipe(); err != nil {
			return 0, nil, err
		}
		defer notifier.Close()
		give = append(append(give, int(notifier.Fd())), o.fds...)
	}
	b.stdio, err = allAbove(give)
	defer closeAll(b.stdio)
	if err == nil {
		pid, err = l.start(o, b)
	}
	if err != nil && notify != nil {
		notify.Close()
		notify = nil
	}
	return pid, notify, err
}

func (l *launcher) root(o order) (*daemonRoot, error) {
	l.dirs.prepare(o.Daemon)
	if leads(o.Daemon) {
		return buildDomainRoot(o.Daemon, o.binary)
	}
	return buildRoot(o.Daemon, o.binary)
}

// start has the process born into its cgroup.
func (l *launcher) start(o order, b blueprint) (int, error) {
	switch {
	case leads(o.Daemon):
		return l.startDomain(o, b)
	case inhabits(o.Daemon):
		return l.startMember(o, b)
	}
	group, err := l.groups.make(o.Daemon, o.id)
	if err != nil {
		return 0, fmt.Errorf("cgroup: %w", err)
	}
	defer group.Close()
	return startProcess(b, group, nil, nil)
}

// startMember starts a process of a domain that runs.
func (l *launcher) startMember(o order, b blueprint) (int, error) {
	entry, leaf, err := l.groups.makeMember(o.Daemon, o.id)
	if err != nil {
		return 0, fmt.Errorf("cgroup: %w", err)
	}
	defer l.groups.removeEntry(o.Daemon, o.id)
	defer entry.Close()
	defer leaf.Close()
	if b.leaf, err = aboveAll(int(leaf.Fd())); err != nil {
		return 0, err
	}
	defer unix.Close(b.leaf)
	place := l.members.take()
	defer l.members.give(place)
	b.shared = l.members.memory
	return startProcess(b, entry, place, o.started)
}

// startDomain starts the first process of a domain and opens the domain.
func (l *launcher) startDomain(o order, b blueprint) (int, error) {
	group, leaf, err := l.groups.makeDomain(o.Daemon)
	if err != nil {
		return 0, fmt.Errorf("cgroup: %w", err)
	}
	defer group.Close()
	defer leaf.Close()
	if b.leaf, err = aboveAll(int(leaf.Fd())); err != nil {
		return 0, err
	}
	defer unix.Close(b.leaf)
	pid, err := startProcess(b, group, nil, nil)
	if err != nil {
		return pid, err
	}
	if err := l.groups.openDomain(o.Daemon); err != nil {
		unix.Kill(pid, unix.SIGKILL) // it has not been reaped
		return pid, fmt.Errorf("cgroup: %w", err)
	}
	return pid, nil
}

// blueprint is what d's process is made from, but for its root and descriptors.
func (l *launcher) blueprint(o order, spec []byte) blueprint {
	rights, err := capabilityMask(o.Capabilities)
	if err != nil {
		panic("BUG: checkSystem let it pass: " + err.Error())
	}
	b := blueprint{
		path:      o.Exec,
		args:      []string{filepath.Base(o.Exec)},
		env:       []string{abi.SpecEnv + "=" + string(spec)},
		user:      int(o.User),
		userNS:    o.UserNS,
		hostNet:   o.Network == "host",
		rights:    rights,
		own:       l.own,
		lastRight: l.lastRight,
		files:     openFiles,
		proc:      l.proc,
	}
	if o.Foreign != nil {
		b.args = append(b.args, o.Foreign.Args...)
		b.env = o.Foreign.Env
		b.filter = o.Foreign.Filter
	}
	b.args = append(b.args, o.args...)
	if o.Limits.Files > 0 {
		b.files = uint64(o.Limits.Files)
	}
	switch {
	case leads(o.Daemon):
		b.place = makesDomain
	case inhabits(o.Daemon):
		b.place = joinsDomain
	}
	if !l.native { // a namespace's root may not be allowed to
		b.oomScore = daemonOOMScore
		b.threads = true
	}
	return b
}

// allAbove duplicates descriptors to firstHigh or above. What it returns must be
// closed even if there is an error.
func allAbove(fds []int) ([]int, error) {
	var high []int
	for _, fd := range fds {
		h, err := aboveAll(fd)
		if err != nil {
			return high, fmt.Errorf("duplicate descriptor %d: %w", fd, err)
		}
		high = append(high, h)
	}
	return high, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func openHigh(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return aboveAll(fd)
}

func ownCapabilities() (capabilitySet, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return 0, fmt.Errorf("read PID 1's capabilities: %w", err)
	}
	return capabilitySet(data[0].Permitted) | capabilitySet(data[1].Permitted)<<32, nil
}

func readInt(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
