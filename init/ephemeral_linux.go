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

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// This file keeps what is on EPHEMERAL no longer than its daemon.toml says.
// A directory that lives for a boot is moved away before its daemon first starts. A
// directory that its owner cannot start with is moved aside, once per boot and when
// kubed requests it, before its domain starts again. No process has it open then.
// What was moved is deleted in the background; what was set aside stays until the
// next boot.
//
// A domain's root decides what is in these directories. So PID 1 opens none of
// them by a path through them, and needs the same few descriptors and the same
// memory however deep and full they are.

const (
	discardDir = "/var/lib/dactyl/discarded"
	asideDir   = "/var/lib/dactyl/aside"
)

// errSetAside is returned for a directory that has been set aside in this boot.
var errSetAside = errors.New("set aside in this boot already")

// ephemeralDirs are the directories of all daemons that do not live for ever. It is
// safe for concurrent use.
type ephemeralDirs struct {
	warn          func(format string, args ...any)
	discard, keep string // discardDir, asideDir

	disk    sync.Mutex      // held while directories are moved, which may take as long as a disk does; guards the next three
	began   bool            // what the boot before left has been moved away
	emptied map[string]bool // in this boot
	moved   int             // counts names in discard

	mu     sync.Mutex      // guards what follows, for moments
	wanted map[string]bool // to be set aside when their domain next starts
	aside  []abi.Owned     // set aside in this boot
}

func newEphemeralDirs(warn func(string, ...any)) *ephemeralDirs {
	return &ephemeralDirs{warn: warn, discard: discardDir, keep: asideDir, emptied: map[string]bool{}, wanted: map[string]bool{}}
}

// prepare moves away what d must not find. A failure costs nothing but that: a daemon
// starts with what is there.
func (e *ephemeralDirs) prepare(d abi.Daemon) {
	if len(d.Emptied) == 0 && len(d.Owned) == 0 {
		return
	}
	e.disk.Lock()
	defer e.disk.Unlock()
	for _, dir := range []string{e.discard, e.keep} {
		if err := makeOwned(dir, os.Geteuid(), 0o700); err != nil {
			e.warn("%v", err)
			return
		}
	}
	e.begin()
	for _, path := range d.Emptied {
		if !e.emptied[path] {
			_, err := e.move(path, e.newName())
			e.emptied[path] = err == nil
		}
	}
	for _, o := range d.Owned {
		if e.isWanted(o) {
			e.setAside(o)
		}
	}
	go e.empty()
}

// begin discards what was set aside before this boot.
func (e *ephemeralDirs) begin() {
	if e.began {
		return
	}
	e.began = true
	keep, err := openToRead(e.keep)
	if err != nil {
		e.warn("%v", err)
		return
	}
	defer keep.Close()
	old, err := keep.Readdirnames(-1)
	if err != nil {
		e.warn("%v", err)
	}
	for _, name := range old {
		_, _ = e.move(filepath.Join(e.keep, name), e.newName()) // a failure is in the log
	}
}

func (e *ephemeralDirs) setAside(o abi.Owned) {
	name := strings.ReplaceAll(strings.TrimPrefix(o.Path, "/"), "/", ".")
	there, err := e.move(o.Path, filepath.Join(e.keep, name))
	if err != nil {
		return // the next start of the domain tries again
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.wanted, o.Path)
	if there {
		e.aside = append(e.aside, o)
		e.warn("%s is set aside, because %s cannot start with it; the next boot deletes it", o.Path, o.Owner)
	}
}

func (e *ephemeralDirs) isWanted(o abi.Owned) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.wanted[o.Path]
}

// newName is free in discard: what an earlier boot left there has its number too.
func (e *ephemeralDirs) newName() string {
	for {
		e.moved++
		name := filepath.Join(e.discard, strconv.Itoa(e.moved))
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
}

// move renames a directory, and says whether there was one.
func (e *ephemeralDirs) move(from, to string) (there bool, err error) {
	err = rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		e.warn("%v", err)
	}
	return err == nil, err
}

// openToRead opens a directory through no symbolic link.
func openToRead(dir string) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, dir, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// rename follows no symbolic link: who writes EPHEMERAL offline could make one.
func rename(from, to string) error {
	var dirs [2]int
	for i, path := range []string{from, to} {
		fd, err := unix.Openat2(unix.AT_FDCWD, filepath.Dir(path), &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
		})
		if err != nil {
			return &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
		}
		defer unix.Close(fd)
		dirs[i] = fd
	}
	if err := unix.Renameat(dirs[0], filepath.Base(from), dirs[1], filepath.Base(to)); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// request has the directories of owner set aside when their domain next starts.
// Those that it returns are errSetAside's cause if all of them have been.
func (e *ephemeralDirs) request(all []abi.Owned) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var paths []string
	for _, o := range all {
		if !slices.Contains(e.aside, o) {
			e.wanted[o.Path] = true
			paths = append(paths, o.Path)
		}
	}
	if len(paths) == 0 {
		return nil, errSetAside
	}
	return paths, nil
}

// asideOf returns what was set aside in this boot because owner could not start with it.
func (e *ephemeralDirs) asideOf(owner string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var paths []string
	for _, o := range e.aside {
		if o.Owner == owner {
			paths = append(paths, o.Path)
		}
	}
	return paths
}

// empty deletes all that is in discard, as far as the kernel lets it.
func (e *ephemeralDirs) empty() {
	discard, err := openToRead(e.discard)
	if err != nil {
		e.warn("%v", err)
		return
	}
	defer discard.Close()
	top := int(discard.Fd())
	w := &wrecker{top: top}
	for {
		names := namesIn(top)
		before := w.removed
		for _, name := range names {
			w.remove(top, name)
		}
		if len(names) == 0 || w.removed == before {
			return
		}
	}
}

// wrecker deletes trees of any depth with two descriptors: it moves each directory in
// a directory up to the top, so that none has to be descended into.
type wrecker struct {
	top     int // descriptor
	lifted  int // counts names of directories that were moved to the top
	removed int
}

// batch is how many names are read from a directory at once.
const batch = 512

func (w *wrecker) remove(dir int, name string) {
	switch err := w.unlink(dir, name, 0); {
	case err == nil, errors.Is(err, unix.ENOENT):
	case errors.Is(err, unix.EISDIR) && dir == w.top:
		w.dissolve(name)
	case errors.Is(err, unix.EISDIR):
		if w.unlink(dir, name, unix.AT_REMOVEDIR) != nil {
			w.lift(dir, name)
		}
	}
}

// unlink removes a file or, with AT_REMOVEDIR, an empty directory. Its attributes
// may forbid it: pods can set those.
func (w *wrecker) unlink(dir int, name string, flags int) error {
	err := unix.Unlinkat(dir, name, flags)
	if errors.Is(err, unix.EPERM) && clearAttributes(dir, name) {
		err = unix.Unlinkat(dir, name, flags)
	}
	if err == nil {
		w.removed++
	}
	return err
}

// dissolve removes a directory at the top, and what is in it, but for directories that
// have something in them: they are at the top then.
func (w *wrecker) dissolve(name string) {
	if w.unlink(w.top, name, unix.AT_REMOVEDIR) == nil {
		return
	}
	clearAttributes(w.top, name)
	dir, err := unix.Openat(w.top, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	for {
		before := w.removed
		for _, entry := range namesIn(dir) {
			w.remove(dir, entry)
		}
		if w.removed == before {
			break
		}
	}
	_ = w.unlink(w.top, name, unix.AT_REMOVEDIR)
}

func (w *wrecker) lift(dir int, name string) {
	for {
		w.lifted++
		err := unix.Renameat2(dir, name, w.top, fmt.Sprintf("lifted-%d", w.lifted), unix.RENAME_NOREPLACE)
		switch {
		case err == nil:
			w.removed++ // from where it was
			return
		case errors.Is(err, unix.EPERM) && clearAttributes(dir, name):
		case !errors.Is(err, unix.EEXIST):
			return
		}
	}
}

// namesIn returns the first names in a directory, without . and ..
func namesIn(dir int) []string {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	names, _ := f.Readdirnames(batch)
	return names
}

// clearAttributes takes off what forbids to change or remove a file or directory,
// and says whether there was something.
func clearAttributes(dir int, name string) bool {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return false
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	const forbidding = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND // equal to FS_IMMUTABLE_FL and FS_APPEND_FL
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&forbidding == 0 {
		return false
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^forbidding) == nil
}
