package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The machine's /dev is PID 1's own: a tmpfs with the nodes of what the kernel lists in
// /sys/dev. There is no devtmpfs, which is one and the same wherever it is mounted: a
// domain's root would find a node of every disk there, could mount with it what is
// mounted already (the kernel asks no device filter then), and give nodes other names.

// node is a device as the kernel lists it.
type node struct {
	kind   uint32 // S_IFCHR or S_IFBLK
	number uint64
	mode   uint32 // permissions
}

// nodeClasses are the directories below /sys/dev.
var nodeClasses = map[string]uint32{"char": unix.S_IFCHR, "block": unix.S_IFBLK}

// nodesMade is what listDevices said when a dev was made, by dev. It guards making them,
// too: daemons start side by side.
var nodesMade = struct {
	sync.Mutex
	of map[string]string
}{of: map[string]string{}}

// makeNodes makes dev what sys lists now: what is new gets a node, what has gone loses it.
func makeNodes(sys, dev string) error {
	nodesMade.Lock()
	defer nodesMade.Unlock()
	now, err := listDevices(sys)
	if err != nil || nodesMade.of[dev] == now {
		return err
	}
	want, err := listNodes(sys)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(dev, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dev+"/")
		if n, ok := want[name]; ok && n.kind == st.Mode&unix.S_IFMT && n.number == st.Rdev {
			delete(want, name)
			return nil
		}
		return os.Remove(path)
	})
	if err != nil {
		return fmt.Errorf("device nodes: %w", err)
	}
	for name, n := range want {
		if err := makeNode(filepath.Join(dev, name), n); err != nil {
			return fmt.Errorf("device node %s: %w", name, err)
		}
	}
	nodesMade.of[dev] = now
	return nil
}

// listDevices returns all numbers with where in sys their devices are, which has their
// names: reading what each says costs a machine that starts several times as much.
func listDevices(sys string) (string, error) {
	var b strings.Builder
	for _, class := range slices.Sorted(maps.Keys(nodeClasses)) {
		dir := filepath.Join(sys, "dev", class)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return "", fmt.Errorf("list devices: %w", err)
		}
		for _, e := range entries {
			at, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err != nil {
				at = err.Error() // it has just gone
			}
			fmt.Fprintln(&b, class, e.Name(), at)
		}
	}
	return b.String(), nil
}

func makeNode(path string, n node) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(path, n.kind|0o600, int(n.number)); err != nil {
		return err
	}
	return unix.Chmod(path, n.mode) // whatever the umask
}

// listNodes returns the devices that have a name, by it. One that goes meanwhile is left
// out.
func listNodes(sys string) (map[string]node, error) {
	nodes := map[string]node{}
	for class, kind := range nodeClasses {
		dir := filepath.Join(sys, "dev", class)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		for _, e := range entries {
			n, name, err := readNode(filepath.Join(dir, e.Name(), "uevent"))
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("device %s: %w", e.Name(), err)
			}
			if n.kind = kind; filepath.IsLocal(name) {
				nodes[name] = n
			}
		}
	}
	return nodes, nil
}

// readNode reads what the kernel says of a device. Without DEVMODE it is the owner's.
func readNode(path string) (n node, name string, err error) {
	text, err := readSmall(path)
	if err != nil {
		return n, "", err
	}
	var major, minor uint32
	n.mode = 0o600
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		var to *uint32
		switch key {
		case "DEVNAME":
			name = value
			continue
		case "MAJOR":
			to = &major
		case "MINOR":
			to = &minor
		case "DEVMODE":
			to = &n.mode
		default:
			continue
		}
		v, err := strconv.ParseUint(value, 0, 32) // DEVMODE begins with a 0, and is octal
		if err != nil {
			return n, "", fmt.Errorf("%s: %w", key, err)
		}
		*to = uint32(v)
	}
	n.number = unix.Mkdev(major, minor)
	return n, name, nil
}

// readSmall reads a file of the kernel's in three system calls; there are hundreds.
func readSmall(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var page [4096]byte // of sysfs no file is longer
	n, err := unix.Read(fd, page[:])
	return string(page[:max(n, 0)]), err
}
