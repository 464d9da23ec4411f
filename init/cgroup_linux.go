package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroups makes one cgroup per process of a daemon, so that nothing that it
// starts outlives it and two incarnations have a budget each. A domain has a
// cgroup of its own, with a leaf for each of its programs, below which its programs
// do as they like.
type cgroups struct {
	dir     string // of daemons
	domains string // of domains; made with the first
	limited bool   // controllers are there
	pods    int64  // pids.max of a domain
	native  bool
	warn    func(format string, args ...any)

	mu   sync.Mutex // guards left
	left []string   // entries that could not be removed yet
}

const (
	// reaperGroup is the leaf of a domain's first process.
	reaperGroup = "reaper"
	// shimsGroup is a leaf for what outlives the program that starts it. containerd
	// moves its shims into it, and so does not take them with it.
	shimsGroup = "shims"
	// daemonControllers and domainControllers are what limits and accounts.
	daemonControllers = "memory pids"
	domainControllers = "cpu cpuset io memory pids hugetlb"
)

// newCgroups makes the directory for all of them. On another Linux whose cgroups
// are of version 1 the controllers are taken, and limits are not set.
func newCgroups(native bool, warn func(string, ...any)) (*cgroups, error) {
	c := &cgroups{limited: true, native: native, warn: warn}
	suffix := ""
	if native {
		var st unix.Stat_t
		if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
			return nil, err
		}
		suffix = fmt.Sprintf(".%d", st.Ino)
	}
	c.dir, c.domains = filepath.Join(cgroupRoot, "dactyl"+suffix), filepath.Join(cgroupRoot, "domains"+suffix)
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	for _, step := range []struct{ dir, controllers string }{{cgroupRoot, domainControllers}, {c.dir, daemonControllers}} {
		if err := c.enable(step.dir, step.controllers); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// enable turns controllers on for what is below dir.
func (c *cgroups) enable(dir, controllers string) error {
	there, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(controllers) {
		if c.native && !slices.Contains(strings.Fields(string(there)), name) {
			c.limited = c.limited && !strings.Contains(daemonControllers, name)
			continue
		}
		if err := writeExisting(filepath.Join(dir, "cgroup.subtree_control"), "+"+name); err != nil {
			return err
		}
	}
	return nil
}

func (c *cgroups) path(d abi.Daemon, id int) string {
	switch {
	case leads(d):
		return filepath.Join(c.domain(d.Domain), reaperGroup)
	case inhabits(d):
		return filepath.Join(c.domain(d.Domain), d.Name) // there is never more than one
	}
	return filepath.Join(c.dir, fmt.Sprintf("%s.%d", d.Name, id))
}

func (c *cgroups) domain(name string) string { return filepath.Join(c.domains, name) }

// entryLimits are those of the cgroup in which a member of a domain is made. There are two
// processes in it at most, and none for long.
var entryLimits = abi.Limits{MemoryBytes: 32 << 20, PIDs: 2}

// entry is the cgroup in which a process of a domain is made. The device filter holds for it,
// but it is outside the domain's cgroup namespace: the domain's root cannot freeze it.
func (c *cgroups) entry(d abi.Daemon, id int) string {
	return filepath.Join(c.domains, fmt.Sprintf("%s.%d", d.Name, id))
}

// makeMember makes the two cgroups of a process of a domain: the one in which it is made and
// its leaf in the domain, of which it returns cgroup.procs. The leaf must be a new one. What
// the domain's root does to it later concerns only a process that has the rights of its program.
func (c *cgroups) makeMember(d abi.Daemon, id int) (entry, leaf *os.File, err error) {
	c.removeLeft()
	dir := c.path(d, id)
	if err := removeGroups(dir); err != nil {
		return nil, nil, fmt.Errorf("remove the last one: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, nil, err
	}
	if err := c.limit(dir, d.Limits); err != nil {
		return nil, nil, err
	}
	if leaf, err = openLeaf(dir); err != nil {
		return nil, nil, err
	}
	if entry, err = c.makeEntry(d, id); err != nil {
		leaf.Close()
		return nil, nil, err
	}
	return entry, leaf, nil
}

func (c *cgroups) makeEntry(d abi.Daemon, id int) (*os.File, error) {
	dir := c.entry(d, id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	err := c.limit(dir, entryLimits)
	var entry *os.File
	if err == nil {
		entry, err = os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return entry, nil
}

// removeEntry removes the cgroup in which a process of a domain was made, and kills what did
// not get from there to its leaf. One that cannot be removed is logged once, and tried again
// whenever a process of a domain starts or ends.
func (c *cgroups) removeEntry(d abi.Daemon, id int) {
	dir := c.entry(d, id)
	err := removeGroups(dir)
	if err == nil {
		return
	}
	c.warn("%s: the cgroup in which it was started is left: %v", d.Name, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = append(c.left, dir)
}

// removeLeft tries again to remove what is left, and waits for nothing.
func (c *cgroups) removeLeft() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = slices.DeleteFunc(c.left, func(dir string) bool {
		_ = writeExisting(filepath.Join(dir, "cgroup.kill"), "1") // removeTree fails for what survives it
		err := removeTree(dir)
		return err == nil || errors.Is(err, fs.ErrNotExist)
	})
}

// openLeaf opens cgroup.procs of a cgroup in which a process can run.
func openLeaf(dir string) (*os.File, error) {
	group, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer group.Close()
	for _, is := range []struct{ file, want string }{{"cgroup.freeze", "0"}, {"cgroup.type", "domain"}} {
		text, err := group.ReadFile(is.file)
		if err != nil {
			return nil, err
		}
		if got := strings.TrimSpace(string(text)); got != is.want {
			return nil, fmt.Errorf("%s: %s is %q, want %q: a process of the domain has changed it", dir, is.file, got, is.want)
		}
	}
	return group.OpenFile("cgroup.procs", os.O_WRONLY, 0)
}

// make returns a directory that a process can be born into.
func (c *cgroups) make(d abi.Daemon, id int) (*os.File, error) {
	dir := c.path(d, id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if err := c.limit(dir, d.Limits); err != nil {
		return nil, err
	}
	return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// limit sets what a manifest allows; 0 is no limit of its own.
func (c *cgroups) limit(dir string, l abi.Limits) error {
	if !c.limited {
		return nil
	}
	for _, limit := range []struct {
		file string
		most int64
	}{{"memory.max", l.MemoryBytes}, {"pids.max", l.PIDs}} {
		value := "max"
		if limit.most > 0 {
			value = strconv.FormatInt(limit.most, 10)
		}
		if err := writeExisting(filepath.Join(dir, limit.file), value); err != nil {
			return err
		}
	}
	return writeExisting(filepath.Join(dir, "memory.oom.group"), "1")
}

// makeDomains makes the cgroup of all domains, with the device filter on it.
func (c *cgroups) makeDomains() error {
	if err := os.Mkdir(c.domains, 0o755); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	group, err := os.Open(c.domains)
	if err != nil {
		return err
	}
	defer group.Close()
	if err = filterDevices(group); err == nil {
		err = c.enable(c.domains, domainControllers)
	}
	if err != nil {
		return errors.Join(err, os.Remove(c.domains)) // never there without its filter
	}
	return nil
}

// makeDomain makes a domain's cgroup anew. Its first process is born into it and
// goes to its leaf, whose cgroup.procs is leaf; then the domain is to be opened.
func (c *cgroups) makeDomain(d abi.Daemon) (group, leaf *os.File, err error) {
	if err := c.makeDomains(); err != nil {
		return nil, nil, err
	}
	dir := c.domain(d.Domain)
	if err := removeGroups(dir); err != nil {
		return nil, nil, err
	}
	for _, dir := range []string{dir, filepath.Join(dir, reaperGroup), filepath.Join(dir, shimsGroup)} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, nil, err
		}
	}
	if err := c.bound(dir); err != nil {
		return nil, nil, err
	}
	if group, err = os.Open(dir); err != nil {
		return nil, nil, err
	}
	if leaf, err = os.OpenFile(filepath.Join(dir, reaperGroup, "cgroup.procs"), os.O_WRONLY, 0); err != nil {
		group.Close()
		return nil, nil, err
	}
	return group, leaf, nil
}

const (
	// domainDepth and domainGroups are how deep and how many cgroups may be below a domain's.
	// A node has at most 110 pods, with a cgroup for each pod and container and what those
	// make that run systemd or a runtime. PID 1 removes all of them when the domain ends.
	domainDepth  = 32
	domainGroups = 4096
)

// bound limits a domain as a whole. These files belong to the root of its cgroup namespace,
// which cannot write them.
func (c *cgroups) bound(dir string) error {
	for _, limit := range []struct {
		file string
		most int
	}{{"cgroup.max.depth", domainDepth}, {"cgroup.max.descendants", domainGroups}} {
		if err := writeExisting(filepath.Join(dir, limit.file), strconv.Itoa(limit.most)); err != nil {
			return err
		}
	}
	if !c.limited {
		return nil
	}
	return writeExisting(filepath.Join(dir, "pids.max"), strconv.FormatInt(c.pods, 10))
}

// ownThreads are for PID 1 and the kernel itself.
const ownThreads = 512

// domainThreads returns how many of the kernel's threads a domain may have: those that
// neither PID 1 nor the daemons of s ever need. On a small machine that is half of them.
func domainThreads(s *abi.System, all int64) int64 {
	left := all - ownThreads
	for _, d := range s.Daemons {
		if d.Domain == "" {
			left -= d.Limits.PIDs
		}
	}
	return max(left, all/2)
}

// openDomain turns controllers on in a domain, which the kernel does only when
// there are no processes but in leaves.
func (c *cgroups) openDomain(d abi.Daemon) error {
	dir := c.domain(d.Domain)
	if err := c.enable(dir, domainControllers); err != nil {
		return err
	}
	return c.limit(filepath.Join(dir, reaperGroup), d.Limits)
}

// emptyTimeout is how long killed processes may take to leave their cgroup.
const emptyTimeout = 2 * time.Second

// removeGroups kills what is left in a cgroup and those below it, and removes them.
func removeGroups(top string) error {
	err := writeExisting(filepath.Join(top, "cgroup.kill"), "1")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // the domain's root has made it a threaded one
		return err
	}
	for end := time.Now().Add(emptyTimeout); ; time.Sleep(10 * time.Millisecond) {
		if err = removeTree(top); !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}

// removeTree removes a cgroup and those below it, which must be empty. Their files
// go by themselves. Paths would get too long for the kernel: the domain's root has chosen
// the names.
func removeTree(top string) error {
	parent, err := unix.Open(filepath.Dir(top), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Dir(top), Err: err}
	}
	defer unix.Close(parent)
	if err := removeBelow(parent, filepath.Base(top)); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", top, err)
	}
	return nil
}

// removeBelow removes the cgroup with this name in parent.
func removeBelow(parent int, name string) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	below, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range below {
		if !e.IsDir() {
			continue
		}
		if err := removeBelow(fd, e.Name()); err != nil && err != unix.ENOENT {
			return err
		}
	}
	return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
}

// remove kills what is left in a cgroup and removes it. A domain's leaf that is not
// empty at once is left to the next process or to the next domain.
func (c *cgroups) remove(d abi.Daemon, id int) error {
	if inhabits(d) {
		c.removeLeft()
	}
	dir := c.path(d, id)
	if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := writeExisting(filepath.Join(dir, "cgroup.kill"), "1"); err != nil && d.Domain == "" {
		return err
	}
	if err := os.Remove(dir); err != nil && d.Domain == "" {
		return err
	}
	return nil
}

// close removes what is left when all daemons are down. On a machine it would
// not matter; another Linux would keep it.
func (c *cgroups) close() {
	_ = removeGroups(c.domains)
	os.Remove(c.dir)
}
