package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// This file opens and makes what is on file systems that PID 1 shares with others.

// volatile are the directories in which others than the build put files. PID 1 follows no
// symbolic links there: one that was made offline, or by a domain's root, would lead it to
// another's files.
var volatile = []string{"/boot", "/run", "/state", "/tmp", "/var"}

// openPlace opens a path to be bound.
func openPlace(path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}
	if slices.ContainsFunc(volatile, func(dir string) bool { return within(path, dir) }) {
		how.Resolve = unix.RESOLVE_NO_SYMLINKS
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
	if err == unix.ELOOP {
		return 0, fmt.Errorf("a symbolic link is in the way: %w", err)
	}
	return fd, err
}

// openDir opens a directory, through no symbolic link, and makes those that are missing on
// the way to it. Each is made and opened by the descriptor of the one above it, so that a
// link cannot take a place between two looks at it.
func openDir(dir string) (int, error) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(filepath.Clean(dir), "/"), "/") {
		next, err := openBelow(fd, name)
		if errors.Is(err, fs.ErrNotExist) {
			if err = unix.Mkdirat(fd, name, 0o755); err == nil || err == unix.EEXIST {
				next, err = openBelow(fd, name)
			}
		}
		unix.Close(fd)
		if err != nil {
			return 0, &fs.PathError{Op: "open", Path: dir, Err: err}
		}
		fd = next
	}
	return fd, nil
}

// openBelow opens a directory in another, and no symbolic link.
func openBelow(dir int, name string) (int, error) {
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err == unix.ELOOP {
		return 0, fmt.Errorf("a symbolic link is in the way: %w", err)
	}
	return fd, err
}

// makeOwned makes a directory of a daemon's, and those above it, if they are
// missing. It gets its name when it is the daemon's: one that a power cut left
// to root would keep the daemon out for ever.
func makeOwned(dir string, user int, mode os.FileMode) error {
	parent, err := openDir(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	name := filepath.Base(dir)
	there, err := openBelow(parent, name)
	if err == nil {
		return unix.Close(there)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	if err := makeOwnedIn(parent, name, user, mode); err != nil {
		return &fs.PathError{Op: "make", Path: dir, Err: err}
	}
	return nil
}

func makeOwnedIn(parent int, name string, user int, mode os.FileMode) error {
	coming := name + ".new"
	_ = unix.Unlinkat(parent, coming, 0) // a link or a file that PID 1 did not make; a directory stays
	if err := unix.Mkdirat(parent, coming, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	fd, err := unix.Openat(parent, coming, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, user, user); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(mode)); err != nil {
		return err
	}
	return unix.Renameat(parent, coming, parent, name)
}
