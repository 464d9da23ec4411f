package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machineClock is the machine's; up is the monotonic one.
func machineClock(confirmed func() bool, epoch time.Time) *clock {
	start := time.Now()
	return newClock(time.Now, func() time.Duration { return time.Since(start) }, confirmed, epoch)
}

// directory is a store on a disk, or a share in memory.
type directory struct {
	root string
	mode fs.FileMode // of its files
}

// leftover is how old a temporary file must be to be one that a power cut left:
// another trustd may be writing a younger one.
const leftover = time.Minute

const temporary = ".tmp"

// openDirectory takes an existing directory and clears what a power cut left.
func openDirectory(root string) (directory, error) {
	d := directory{root, 0o600}
	for _, folder := range []string{issuedFolder, kubernetesFolder} {
		if err := os.Mkdir(d.at(folder), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return d, err
		}
	}
	if err := d.tidy(); err != nil {
		return d, err
	}
	return d, syncDir(root)
}

// openShare takes the directory in which PID 1 has made a folder for each part: what
// is written there belongs to the part's group, which may read it.
func openShare(root string) (directory, error) {
	d := directory{root, 0o640}
	return d, d.tidy()
}

// tidy removes from the directory and its folders what half a write left.
func (d directory) tidy() error {
	for _, pattern := range []string{"*", "*/*"} {
		found, err := filepath.Glob(d.at(pattern + temporary))
		if err != nil {
			return fmt.Errorf("look for leftovers in %s: %w", d.root, err)
		}
		for _, f := range found {
			if i, err := os.Lstat(f); err == nil && time.Since(i.ModTime()) > leftover {
				os.Remove(f)
			}
		}
	}
	return nil
}

func (d directory) at(name string) string { return filepath.Join(d.root, name) }

func (d directory) has(folder string) (bool, error) {
	i, err := os.Stat(d.at(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && i.IsDir(), err
}

func (d directory) read(name string) ([]byte, error) { return os.ReadFile(d.at(name)) }

func (d directory) create(name string, content []byte) error {
	return d.write(name, content, unix.RENAME_NOREPLACE)
}

func (d directory) replace(name string, content []byte) error { return d.write(name, content, 0) }

// write makes a file beside the wanted one, syncs it, gives it the name
// and syncs the directory, so that neither half a file nor none can be found
// after a power cut.
func (d directory) write(name string, content []byte, flags uint) error {
	to := d.at(name)
	f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*"+temporary)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // where it has not become the file
	err = f.Chmod(d.mode)     // whatever the umask
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, to, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: f.Name(), New: to, Err: err}
	}
	return syncDir(filepath.Dir(to))
}

func (d directory) list(folder string) ([]string, error) {
	entries, err := os.ReadDir(d.at(folder))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), temporary) {
			out = append(out, path.Join(folder, e.Name()))
		}
	}
	slices.Sort(out)
	return out, nil
}

// remove forgets a file; that it is gone already is what was wanted.
func (d directory) remove(name string) error {
	if err := os.Remove(d.at(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
