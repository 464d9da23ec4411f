package native

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is the cgroup v2 that holds all processes of a Machine, and their own
// below it.
type cgroup struct {
	tree int // a mount of cgroup2 that is attached nowhere
	path string
}

// firstGroup is the leaf for PID 1: where the host has controllers turned on, the
// kernel lets nobody hand them on from a cgroup with processes, other than its root.
const firstGroup = "first"

const cgroupPrefix = "dactyl-native." // followed by the harness's pid and a number

var cgroupsMade atomic.Int64

func newCgroup() (*cgroup, error) {
	fd, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open cgroup2: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, fmt.Errorf("cgroup2: %w", err)
	}
	tree, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount cgroup2: %w", err)
	}
	top := fmt.Sprintf("/proc/self/fd/%d", tree)
	sweep(top)
	g := &cgroup{tree, filepath.Join(top, fmt.Sprintf("%s%d.%d", cgroupPrefix, os.Getpid(), cgroupsMade.Add(1)))}
	for _, dir := range []string{g.path, filepath.Join(g.path, firstGroup)} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			unix.Close(tree)
			return nil, fmt.Errorf("make a cgroup: %w", err)
		}
	}
	return g, nil
}

// first opens what moves the process into firstGroup that writes a 0 to it.
func (g *cgroup) first() (*os.File, error) {
	return os.OpenFile(filepath.Join(g.path, firstGroup, "cgroup.procs"), os.O_WRONLY, 0)
}

// sweep removes what harnesses have left that died.
func sweep(top string) {
	left, _ := filepath.Glob(filepath.Join(top, cgroupPrefix+"*"))
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), cgroupPrefix), ".")
		if _, err := os.Stat("/proc/" + owner); err != nil {
			removeTree(dir)
		}
	}
}

// kill ends every process in it.
func (g *cgroup) kill() error {
	return os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0)
}

func (g *cgroup) remove() error {
	defer unix.Close(g.tree)
	return removeTree(g.path)
}

// removeTree removes a cgroup and those below it. Their files go by themselves.
func removeTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := unix.Rmdir(dir); err != nil {
			return fmt.Errorf("remove cgroup %s: %w", filepath.Base(dir), err)
		}
	}
	return nil
}

// processorTime is what all processes in it have used so far, those that ended included.
func (g *cgroup) processorTime() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(g.path, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	var microseconds int64
	if _, err := fmt.Sscanf(string(text), "usage_usec %d", &microseconds); err != nil {
		return 0, fmt.Errorf("cpu.stat: %q: %w", text, err)
	}
	return time.Duration(microseconds) * time.Microsecond, nil
}

// processes returns the pids, as the host counts them, of a daemon's processes:
// init gives each a cgroup NAME.NUMBER, and NAME in a domain.
func (g *cgroup) processes(daemon string) ([]int, error) {
	var groups []string
	for _, name := range []string{daemon + ".*", daemon} {
		found, err := filepath.Glob(filepath.Join(g.path, "*", name, "cgroup.procs"))
		if err != nil {
			return nil, err
		}
		groups = append(groups, found...)
	}
	var pids []int
	for _, file := range groups {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		for word := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
