package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// dir is where all files of etcdd are:
//
//	member/            etcd's: database, snapshots of the raft, log
//	copy.db            the database of at most a day ago, ended by its SHA-256
//	reserve            blocks kept back for a full disk
//	crash              why etcd died, until it has served for a while
//	broken/            a member directory that could not be read, kept for people
//	coming/, *.tmp     unfinished; removed at start
type dir struct{ path string }

func (d dir) member() string  { return filepath.Join(d.path, "member") }
func (d dir) db() string      { return filepath.Join(d.path, "member", "snap", "db") }
func (d dir) wal() string     { return filepath.Join(d.path, "member", "wal") }
func (d dir) snap() string    { return filepath.Join(d.path, "member", "snap") }
func (d dir) copy() string    { return filepath.Join(d.path, "copy.db") }
func (d dir) reserve() string { return filepath.Join(d.path, "reserve") }
func (d dir) crash() string   { return filepath.Join(d.path, "crash") }
func (d dir) broken() string  { return filepath.Join(d.path, "broken") }
func (d dir) coming() string  { return filepath.Join(d.path, "coming") }

// space is a filesystem's.
type space struct {
	size, free int64
	inMemory   bool
}

func (d dir) space() (space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(d.path, &s); err != nil {
		return space{}, fmt.Errorf("statfs %s: %w", d.path, err)
	}
	return space{int64(s.Blocks) * s.Bsize, int64(s.Bavail) * s.Bsize, s.Type == unix.TMPFS_MAGIC}, nil
}

// takeReserve allocates the reserve's blocks, or none.
func (d dir) takeReserve(bytes int64) error {
	f, err := os.OpenFile(d.reserve(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, bytes); err != nil {
		return errors.Join(fmt.Errorf("allocate %s: %w", d.reserve(), err), d.giveReserve())
	}
	return nil
}

func (d dir) giveReserve() error { return remove(d.reserve()) }

func (d dir) hasReserve() bool {
	_, err := os.Stat(d.reserve())
	return err == nil
}

// copied is when the daily copy was made; zero if there is none.
func (d dir) copied() time.Time {
	info, err := os.Stat(d.copy())
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// writeCopy puts what write writes in the place of the copy, whole or not at all.
func (d dir) writeCopy(write func(*os.File) error) error {
	path := d.copy() + ".tmp"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err == nil {
		err = errors.Join(os.Rename(path, d.copy()), d.sync())
	}
	if err != nil {
		return fmt.Errorf("copy the database: %w", errors.Join(err, remove(path)))
	}
	return nil
}

// sync makes renames in the directory last.
func (d dir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// allocated is how many bytes of a file were ever written: files grow ahead of that.
func allocated(path string) (int64, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return s.Blocks * 512, nil
}

// exists tells whether something is there; what cannot be looked at is.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unthrottle takes back the number of processors that kit leaves to small daemons:
// etcd serves many clients at once.
func unthrottle() { runtime.SetDefaultGOMAXPROCS() }

// exchange puts coming/member in the place of member, and member with coming/why
// into broken. Whenever it is interrupted, a whole member is in its place.
func (d dir) exchange() error {
	fresh := filepath.Join(d.coming(), "member")
	if !exists(d.member()) {
		return errors.Join(os.Rename(fresh, d.member()), d.keepBroken())
	}
	if err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, d.member(), unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	return d.keepBroken()
}

// keepBroken makes what is left of coming the one broken directory that is kept.
func (d dir) keepBroken() error {
	if err := os.RemoveAll(d.broken()); err != nil {
		return err
	}
	return os.Rename(d.coming(), d.broken())
}
