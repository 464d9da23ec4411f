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
	proc      int // descriptor of /proc
	null      int // of /dev/null
	own       capabilitySet
	lastRight int
}

func newLauncher(s *abi.System, native bool) (*launcher, error) {
	l := &launcher{system: s, native: native}
	var err error
	if l.groups, err = newCgroups(native); err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
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

// launch starts process id of d from binary, with args after those that it always
// has. The read end of its notify pipe
// is the caller's; a pid that is not 0 must be reaped even if there is an error.
func (l *launcher) launch(d abi.Daemon, id int, binary string, args []string, in inherited) (pid int, notify *os.File, err error) {
	root, err := buildRoot(d, binary)
	if err != nil {
		return 0, nil, err
	}
	defer root.close()
	group, err := l.groups.make(daemonName(d.Name), id, d.Limits)
	if err != nil {
		return 0, nil, fmt.Errorf("cgroup: %w", err)
	}
	defer group.Close()
	notify, notifier, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer notifier.Close()
	spec, err := json.Marshal(abi.Spec{Daemon: d, Mode: l.system.Mode, Version: l.system.Version, Descriptors: in.descriptors})
	if err != nil {
		return 0, nil, err
	}
	stdio, err := allAbove(append([]int{l.null, in.log, in.log, int(notifier.Fd())}, in.fds...))
	defer closeAll(stdio)
	if err == nil {
		b := l.blueprint(d, root, spec, stdio)
		b.args = append(b.args, args...)
		pid, err = startProcess(programFor(b), group)
	}
	if err != nil {
		notify.Close()
		return pid, nil, err
	}
	return pid, notify, nil
}

func (l *launcher) blueprint(d abi.Daemon, root *daemonRoot, spec []byte, stdio []int) blueprint {
	rights, err := capabilityMask(d.Capabilities)
	if err != nil {
		panic("BUG: checkSystem let it pass: " + err.Error())
	}
	b := blueprint{
		path:      d.Exec,
		args:      []string{filepath.Base(d.Exec)},
		env:       []string{abi.SpecEnv + "=" + string(spec)},
		user:      int(d.User),
		userNS:    d.UserNS,
		hostNet:   d.Network == "host",
		rights:    rights,
		own:       l.own,
		lastRight: l.lastRight,
		files:     openFiles,
		proc:      l.proc,
		root:      root.fd,
		mounts:    root.mounts,
		stdio:     stdio,
	}
	if !l.native { // a namespace's root may not be allowed to
		b.oomScore = daemonOOMScore
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
