package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroups makes one cgroup per process of a daemon, so that nothing that it
// starts outlives it and two incarnations have a budget each.
type cgroups struct {
	dir     string
	limited bool // controllers are there
}

// newCgroups makes the directory for all of them. On another Linux whose cgroups
// are of version 1 the controllers are taken, and limits are not set.
func newCgroups(native bool) (*cgroups, error) {
	c := &cgroups{dir: filepath.Join(cgroupRoot, "dactyl"), limited: true}
	if native {
		var st unix.Stat_t
		if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
			return nil, err
		}
		c.dir = filepath.Join(cgroupRoot, fmt.Sprintf("dactyl.%d", st.Ino))
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	for _, dir := range []string{cgroupRoot, c.dir} {
		err := writeExisting(filepath.Join(dir, "cgroup.subtree_control"), "+memory +pids")
		if err != nil && !native {
			return nil, err
		}
		c.limited = c.limited && err == nil
	}
	return c, nil
}

func (c *cgroups) path(name daemonName, id int) string {
	return filepath.Join(c.dir, fmt.Sprintf("%s.%d", name, id))
}

// make returns a directory that a process can be born into.
func (c *cgroups) make(name daemonName, id int, l abi.Limits) (*os.File, error) {
	dir := c.path(name, id)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if c.limited {
		for _, limit := range []struct{ file, value string }{
			{"memory.max", strconv.FormatInt(l.MemoryBytes, 10)},
			{"memory.oom.group", "1"},
			{"pids.max", strconv.FormatInt(l.PIDs, 10)},
		} {
			if err := writeExisting(filepath.Join(dir, limit.file), limit.value); err != nil {
				return nil, err
			}
		}
	}
	return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// remove kills what is left in a cgroup and removes it.
func (c *cgroups) remove(name daemonName, id int) error {
	dir := c.path(name, id)
	if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := writeExisting(filepath.Join(dir, "cgroup.kill"), "1"); err != nil {
		return err
	}
	return os.Remove(dir)
}

// close removes what is left when all daemons are down. On a machine it would
// not matter; another Linux would keep it.
func (c *cgroups) close() { os.Remove(c.dir) }
