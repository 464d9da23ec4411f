package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// commonDevices are what any program may expect in /dev.
var commonDevices = []string{"/dev/null", "/dev/zero", "/dev/urandom"}

const (
	closed = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	// rootOptions hold the directories and empty files that mounts are put on.
	rootOptions = "mode=0755,size=64k,nr_inodes=256"
	devOptions  = "mode=0755,size=64k,nr_inodes=128"
)

// daemonRoot is a daemon's file system while it is built: mounts that are
// attached nowhere. All its descriptors are closed together.
type daemonRoot struct {
	fd     int
	mounts []attach
	made   map[string]bool // directories in the root
	memory []attach        // those of mounts that places are made in, while they are built
}

// buildRoot makes what d will see: its program, the sockets of its calls, the
// paths that it may read or write, and a /dev of its own.
func buildRoot(d abi.Daemon, binary string) (*daemonRoot, error) {
	fd, err := newTmpfs(rootOptions, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, err
	}
	r := &daemonRoot{fd: fd, made: map[string]bool{".": true}}
	if err := r.fill(d, binary); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *daemonRoot) close() {
	for _, m := range r.mounts {
		unix.Close(m.fd)
	}
	unix.Close(r.fd)
}

// bindProgram shows d its binary and what it may start besides. Once a daemon of ours is
// sealed, neither Landlock nor seccomp lets it start anything.
func (r *daemonRoot) bindProgram(d abi.Daemon, binary string) error {
	const program = closed &^ unix.MOUNT_ATTR_NOEXEC
	if err := r.bind(binary, d.Exec, program, unix.MS_PRIVATE); err != nil {
		return err
	}
	for _, path := range d.Run {
		if err := r.bind(path, path, program, unix.MS_PRIVATE); err != nil {
			return err
		}
	}
	return nil
}

func (r *daemonRoot) fill(d abi.Daemon, binary string) error {
	if err := r.bindProgram(d, binary); err != nil {
		return err
	}
	sockets := filepath.Join(abi.SocketDir, d.Name)
	if err := r.bind(sockets, abi.SocketDir, closed, unix.MS_PRIVATE); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, path := range d.Read {
		if err := r.bind(path, path, closed, unix.MS_PRIVATE); err != nil {
			return err
		}
	}
	if err := r.bindShares(d); err != nil {
		return err
	}
	for _, dir := range d.Write {
		if err := makeOwned(dir, int(d.User), 0o700); err != nil {
			return err
		}
		if err := r.bind(dir, dir, closed&^unix.MOUNT_ATTR_RDONLY, unix.MS_PRIVATE); err != nil {
			return err
		}
	}
	for _, dir := range d.Mount {
		if err := r.bind(dir, dir, 0, unix.MS_SHARED); err != nil {
			return err
		}
	}
	if err := r.addDev(d); err != nil {
		return err
	}
	return setMount(r.fd, unix.MOUNT_ATTR_RDONLY, 0)
}

// bind clones what is mounted at path, and below it, to be attached at place.
// What is mounted there later stays outside: it would bring its own attributes
// and not have these. Only a shared clone passes mounts on, both ways.
func (r *daemonRoot) bind(path, place string, attributes, propagation uint64) error {
	source, err := openPlace(path)
	if err != nil {
		return &fs.PathError{Op: "bind", Path: path, Err: err}
	}
	defer unix.Close(source)
	fd, err := unix.OpenTree(source, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return &fs.PathError{Op: "bind", Path: path, Err: err}
	}
	r.mounts = append(r.mounts, attach{fd, strings.TrimPrefix(place, "/")})
	if err := setMount(fd, attributes, propagation); err != nil {
		return fmt.Errorf("restrict the mount of %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return r.makePlace(strings.TrimPrefix(place, "/"), st.Mode&unix.S_IFMT == unix.S_IFDIR)
}

// makePlace makes an empty directory or file to attach a mount to. One inside a
// path that is bound itself is there already.
func (r *daemonRoot) makePlace(place string, isDir bool) error {
	for _, m := range r.mounts[:max(0, len(r.mounts)-1)] {
		if within(place, m.at) && !slices.Contains(r.memory, m) {
			return nil
		}
	}
	parent := place
	if !isDir {
		parent = filepath.Dir(place)
	}
	if err := r.makeDirs(parent); err != nil || isDir {
		return err
	}
	holder, below := r.holder(place)
	fd, err := unix.Openat(holder, below, unix.O_CREAT|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return &fs.PathError{Op: "make", Path: place, Err: err}
	}
	return unix.Close(fd)
}

func (r *daemonRoot) makeDirs(dir string) error {
	if r.made[dir] {
		return nil
	}
	if err := r.makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	holder, below := r.holder(dir)
	if err := unix.Mkdirat(holder, below, 0o755); err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	r.made[dir] = true
	return nil
}

// holder returns the mount in which a place is made, and where in it.
func (r *daemonRoot) holder(place string) (fd int, below string) {
	for _, m := range r.memory {
		if within(place, m.at) && place != m.at {
			return m.fd, strings.TrimPrefix(place, m.at+"/")
		}
	}
	return r.fd, place
}

// addMemory mounts a tmpfs at a place of the root.
func (r *daemonRoot) addMemory(at, options string) error {
	if err := r.makeDirs(at); err != nil {
		return err
	}
	fd, err := newTmpfs(options, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return fmt.Errorf("/%s: %w", at, err)
	}
	m := attach{fd, at}
	r.mounts, r.memory = append(r.mounts, m), append(r.memory, m)
	return nil
}

// addDev makes a /dev with the common nodes and copies of those that the
// patterns of [devices] match now.
func (r *daemonRoot) addDev(d abi.Daemon) error {
	if err := r.makeDirs("dev"); err != nil {
		return err
	}
	fd, err := newTmpfs(devOptions, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	r.mounts = append(r.mounts, attach{fd, "dev"})
	if err := giveNodes(fd, commonDevices, d, ownerOnly); err != nil {
		return err
	}
	return setMount(fd, unix.MOUNT_ATTR_RDONLY, 0)
}

// nodeModes says who but their owner may use the nodes in a /dev.
type nodeModes uint32

const (
	ownerOnly nodeModes = 0o600
	keepModes nodeModes = 0o666 // whoever may on the machine
)

// giveNodes fills a /dev of d's own with nodes that all have, and with those of [devices],
// which PID 1 makes on the machine's only now.
func giveNodes(dev int, all []string, d abi.Daemon, modes nodeModes) error {
	if len(d.Devices) > 0 && !isNative() { // whose /dev is what the tests have put there
		if err := makeNodes("/sys", "/dev", d.Devices); err != nil {
			return err
		}
	}
	return copyNodes(dev, slices.Concat(all, d.Devices), int(d.User), modes)
}

// copyNodes makes nodes like those that the patterns match, owned by user.
func copyNodes(dev int, patterns []string, user int, modes nodeModes) error {
	for _, pattern := range patterns {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("devices %s: %w", pattern, err)
		}
		for _, path := range matches {
			if err := copyNode(dev, path, user, modes); err != nil {
				return fmt.Errorf("copy device %s: %w", path, err)
			}
		}
	}
	return nil
}

// copyNode makes a device node like the one at path. A directory on the way to it
// is made as needed.
func copyNode(dev int, path string, user int, modes nodeModes) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return nil
	}
	place := strings.TrimPrefix(path, "/dev/")
	for i, c := range place {
		if c == '/' {
			if err := unix.Mkdirat(dev, place[:i], 0o755); err != nil && err != unix.EEXIST {
				return err
			}
		}
	}
	if err := unix.Mknodat(dev, place, kind|0o600, int(st.Rdev)); err != nil && err != unix.EEXIST {
		return err
	}
	if err := unix.Fchownat(dev, place, user, user, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Fchmodat(dev, place, (st.Mode|0o600)&uint32(modes), 0)
}

// newTmpfs makes a tmpfs that is attached nowhere.
func newTmpfs(options string, attributes int) (int, error) {
	return newMount("tmpfs", options, attributes)
}

// newMount makes a file system that is attached nowhere.
func newMount(kind, options string, attributes int) (int, error) {
	fd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", kind, err)
	}
	defer unix.Close(fd)
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		if err := unix.FsconfigSetString(fd, key, value); err != nil {
			return 0, fmt.Errorf("%s option %s: %w", kind, option, err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return 0, fmt.Errorf("make %s: %w", kind, err)
	}
	root, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return 0, fmt.Errorf("mount %s: %w", kind, err)
	}
	return root, nil
}

func setMount(fd int, attributes, propagation uint64) error {
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE,
		&unix.MountAttr{Attr_set: attributes, Propagation: propagation})
}
