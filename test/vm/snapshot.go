package vm

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// snapshotAge is how long a snapshot is used. The clock of a restored machine is
	// late by the snapshot's age, the certificates of its components are valid for 24
	// hours, and kubectl checks them with the host's clock.
	snapshotAge = 12 * time.Hour

	// snapshotsKept is how many are kept, the newest: a snapshot is a few hundred
	// megabytes, and each build of an image needs another one.
	snapshotsKept = 3

	// snapshotFormat goes into the key: change it with what a snapshot contains.
	snapshotFormat = 1
)

// snapshots is where they are: in the user's cache, each in a directory named by its key.
func snapshots() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "dactyl", "snapshots")
	return dir, os.MkdirAll(dir, 0o755)
}

// snapshot is a complete snapshot, which is not pruned until close.
type snapshot struct {
	dir  string
	made time.Time
	lock *os.File
}

func (s *snapshot) close() { s.lock.Close() }

func (s *snapshot) file(name string) string { return filepath.Join(s.dir, name) }

// identity is the admin's of all machines that are restored from the snapshot.
func (s *snapshot) identity() (Identity, error) {
	var saved savedIdentity
	text, err := os.ReadFile(s.file(identityFile))
	if err != nil {
		return Identity{}, err
	}
	if err := json.Unmarshal(text, &saved); err != nil {
		return Identity{}, fmt.Errorf("%s: %w", s.file(identityFile), err)
	}
	return saved.identity()
}

// findSnapshot returns the snapshot with this key. If there is none that is young enough,
// it calls create, which fills an empty directory. Processes that want the same one wait
// for the first of them.
func findSnapshot(ctx context.Context, parent, key string, create func(dir string) error) (*snapshot, error) {
	dir := filepath.Join(parent, key)
	for {
		if s, err := openSnapshot(ctx, dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		if err := createSnapshot(ctx, dir, create); err != nil {
			return nil, err
		}
	}
}

// openSnapshot fails with fs.ErrNotExist if there is no snapshot, or one that is too old.
func openSnapshot(ctx context.Context, dir string) (*snapshot, error) {
	lock, err := lockFile(ctx, dir+".lock", unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	s := &snapshot{dir: dir, lock: lock}
	info, err := os.Stat(s.file(identityFile)) // it is written last
	switch {
	case err != nil:
	case time.Since(info.ModTime()) > snapshotAge:
		err = fmt.Errorf("%s is older than %v: %w", dir, snapshotAge, fs.ErrNotExist)
	default:
		s.made = info.ModTime()
		return s, nil
	}
	s.close()
	return nil, err
}

func createSnapshot(ctx context.Context, dir string, create func(dir string) error) error {
	lock, err := lockFile(ctx, dir+".lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	if info, err := os.Stat(filepath.Join(dir, identityFile)); err == nil && time.Since(info.ModTime()) <= snapshotAge {
		return nil // another process made it meanwhile
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := pruneSnapshots(filepath.Dir(dir), snapshotsKept-1); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil { // it contains keys
		return err
	}
	if err := create(dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

// pruneSnapshots removes all but the newest that are young enough. Those in use stay.
func pruneSnapshots(parent string, kept int) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	type candidate struct {
		dir  string
		made time.Time
	}
	var all []candidate
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		c := candidate{dir: filepath.Join(parent, e.Name())}
		if info, err := os.Stat(filepath.Join(c.dir, identityFile)); err == nil {
			c.made = info.ModTime() // else what made it was killed: the zero time
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b candidate) int { return b.made.Compare(a.made) })
	for i, c := range all {
		if i < kept && time.Since(c.made) <= snapshotAge {
			continue
		}
		if err := removeUnused(c.dir); err != nil {
			return err
		}
	}
	return nil
}

// removeUnused removes a snapshot unless another process has locked it. The lock's file,
// which is empty, stays: another process may wait for it.
func removeUnused(dir string) error {
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	switch err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
		return os.RemoveAll(dir)
	case syscall.EWOULDBLOCK:
		return nil
	default:
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
}

// lockFile locks a file; closing it releases the lock.
func lockFile(ctx context.Context, path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case err != unix.EWOULDBLOCK && err != unix.EINTR:
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case !Pause(ctx):
			f.Close()
			return nil, fmt.Errorf("lock %s, which another process holds that makes the same snapshot: %w", path, ctx.Err())
		}
	}
}

// snapshotKey names what a machine is restored from: everything that its memory and its
// disk depend on.
func snapshotKey(ctx context.Context, root string, c Config) (string, error) {
	accel, err := Accelerator(ctx)
	if err != nil {
		return "", err
	}
	version, err := exec.CommandContext(ctx, "qemu-system-x86_64", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("qemu-system-x86_64 --version: %w", err)
	}
	code, vars, err := firmware()
	if err != nil {
		return "", err
	}
	key := sha256.New()
	fmt.Fprintf(key, "%d\n%s\n%s\n", snapshotFormat, accel, version)
	fmt.Fprintf(key, "%d %d %d %d %q %q\n", c.Disk, c.DiskGiB, c.MemoryMiB, c.CPUs, c.Extra, c.yaml())
	files := []string{code, vars, c.Image}
	for _, pattern := range []string{"go.mod", "test/vm/image.go", "test/vm/workload/*.go"} { // TestImageName is in it
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			return "", errors.Join(err, fmt.Errorf("no %s in %s", pattern, root))
		}
		files = append(files, found...)
	}
	for _, f := range files {
		if err := hashFile(key, f); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%.10x", key.Sum(nil)), nil
}

// hashFile writes a file's data to h, with where it is: holes, of which most of an image
// is made, are left out.
func hashFile(h hash.Hash, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "file %d\n", info.Size())
	for at := int64(0); ; {
		begin, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO { // the rest is a hole
			return nil
		}
		if err != nil {
			return fmt.Errorf("seek in %s: %w", path, err)
		}
		end, err := unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("seek in %s: %w", path, err)
		}
		fmt.Fprintf(h, "data %d\n", begin)
		if _, err := io.Copy(h, io.NewSectionReader(f, begin, end-begin)); err != nil {
			return err
		}
		at = end
	}
}

// copyFile copies without reading what a file system can share or a hole.
func copyFile(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "cp", "--reflink=auto", "--sparse=auto", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w: %s", from, to, err, strings.TrimSpace(string(out)))
	}
	return nil
}
