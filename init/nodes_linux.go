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

	"golang.org/x/sys/unix"
)

// The machine's /dev is PID 1's own: a tmpfs with the nodes that it and its daemons
// need. There is no devtmpfs, which is one and the same wherever it is mounted: a
// domain's root would find a node of every device there, and give nodes other names.

// node is a device as the kernel lists it.
type node struct {
	kind   uint32 // S_IFCHR or S_IFBLK
	number uint64
	mode   uint32 // permissions
}

// basicNodes have had their numbers since before there was a /sys to ask
// (Documentation/admin-guide/devices.txt).
var basicNodes = map[string]node{
	"null":    {unix.S_IFCHR, unix.Mkdev(1, 3), 0o666},
	"zero":    {unix.S_IFCHR, unix.Mkdev(1, 5), 0o666},
	"full":    {unix.S_IFCHR, unix.Mkdev(1, 7), 0o666},
	"random":  {unix.S_IFCHR, unix.Mkdev(1, 8), 0o666},
	"urandom": {unix.S_IFCHR, unix.Mkdev(1, 9), 0o666},
	"kmsg":    {unix.S_IFCHR, unix.Mkdev(1, 11), 0o600},
	"tty":     {unix.S_IFCHR, unix.Mkdev(5, 0), 0o666},
}

// makeBasicNodes fills a new dev with what any program may expect.
func makeBasicNodes(dev string) error {
	for name, n := range basicNodes {
		if err := makeNode(filepath.Join(dev, name), n); err != nil {
			return fmt.Errorf("device node %s: %w", name, err)
		}
	}
	return nil
}

// makingNodes is held by who makes nodes: daemons start side by side.
var makingNodes sync.Mutex

// makeNodes makes what is in dev of the patterns, which are of paths in /dev, what sys
// lists now: what is new gets a node, what has gone loses it.
func makeNodes(sys, dev string, patterns []string) error {
	makingNodes.Lock()
	defer makingNodes.Unlock()
	want, err := listNodes(sys, patterns)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(dev, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, dev+"/")
		if !matchesAny(patterns, name) {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
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
	return nil
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

// matchesAny tells whether one of the patterns is for the device with this name. They
// have been checked with the manifest that they come from.
func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := filepath.Match(p, "/dev/"+name)
		return ok
	})
}

// mayMatch tells whether a device may be for one of the patterns that has this name in
// /sys. In /dev itself it has the same; in a directory below it may have any, as net/tun
// is called tun.
func mayMatch(patterns []string, name string) bool {
	return matchesAny(patterns, name) || slices.ContainsFunc(patterns, func(p string) bool { return strings.Count(p, "/") > 2 })
}

// nodeClasses are the directories below /sys/dev.
var nodeClasses = map[string]uint32{"char": unix.S_IFCHR, "block": unix.S_IFBLK}

// listNodes returns the devices that the patterns match, by name. One that goes
// meanwhile is left out. What a device says is read only where its name in /sys lets it
// match: there are hundreds, and PID 1 lists them while the machine starts.
func listNodes(sys string, patterns []string) (map[string]node, error) {
	nodes := map[string]node{}
	for class, kind := range nodeClasses {
		dir := filepath.Join(sys, "dev", class)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		for _, e := range entries {
			device := filepath.Join(dir, e.Name())
			at, err := os.Readlink(device)
			if err == nil && !mayMatch(patterns, filepath.Base(at)) {
				continue
			}
			var n node
			var name string
			if err == nil {
				n, name, err = readNode(filepath.Join(device, "uevent"))
			}
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("device %s: %w", e.Name(), err)
			}
			if n.kind = kind; filepath.IsLocal(name) && matchesAny(patterns, name) {
				nodes[name] = n
			}
		}
	}
	return nodes, nil
}

// readNode reads what the kernel says of a device. Without DEVMODE it is the owner's.
func readNode(path string) (n node, name string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return n, "", err
	}
	var major, minor uint32
	n.mode = 0o600
	for line := range strings.Lines(string(text)) {
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
