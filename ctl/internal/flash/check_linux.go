package flash

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is where the kernel tells of its devices; tests have one of their own.
type Host struct {
	Sys  string // mount point of sysfs
	Proc string // mount point of procfs
}

// ThisHost is the computer that this program runs on.
var ThisHost = Host{Sys: "/sys", Proc: "/proc"}

// Check returns what path is, or why an image of so many bytes must not be
// written to it: then the error is a *Refused.
func (h Host) Check(path string, image int64) (Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Disk{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		return h.checkDevice(path, devno{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, image)
	case unix.S_IFREG:
		return Disk{}, refuse("%s is a plain file, not a block device; --file allows one", path)
	}
	return Disk{}, refuse("%s is not a block device", path)
}

// devno is the number of a block device.
type devno struct{ major, minor uint32 }

func describe(path, dir string, number devno) Disk {
	return Disk{
		Path:      path,
		Name:      filepath.Base(dir),
		Model:     strings.TrimSpace(word(dir, "device/vendor") + " " + word(dir, "device/model")),
		Removable: word(dir, "removable") == "1",
		Bytes:     number64(dir, "size") * sectorSize,
		identity:  strings.TrimSpace(number.String() + " " + word(dir, "diskseq")), // since Linux 5.15
	}
}

func (d devno) String() string { return fmt.Sprintf("%d:%d", d.major, d.minor) }

func (h Host) checkDevice(path string, number devno, image int64) (Disk, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(h.Sys, "dev/block", number.String()))
	if err != nil {
		return Disk{}, fmt.Errorf("look up %s: %w", path, err)
	}
	d := describe(path, dir, number)
	if exists(dir, "partition") {
		return d, refuse("%s is a partition of %s: name the whole disk", path, filepath.Base(filepath.Dir(dir)))
	}
	if word(dir, "ro") == "1" {
		return d, refuse("%s is read-only", path)
	}
	if err := h.checkUse(path, dir); err != nil {
		return d, err
	}
	if n := number64(dir, "queue/logical_block_size"); n > sectorSize {
		return d, refuse("%s has sectors of %d bytes; the image's partition table counts in %d", path, n, sectorSize)
	}
	return d, d.checkRoom(image)
}

// checkUse refuses a disk of which any part is in use.
func (h Host) checkUse(path, dir string) error {
	parts, err := h.family(dir)
	if err != nil {
		return err
	}
	mounts, err := h.mounts()
	if err != nil {
		return err
	}
	used := ""
	for _, m := range mounts {
		part, ours := parts[m.device]
		switch {
		case ours && m.target == "/":
			return refuse("%s is the running system's own disk: %s is mounted on /", path, part)
		case ours && used == "":
			used = fmt.Sprintf("%s is mounted on %s", part, m.target)
		}
	}
	if used != "" {
		return refuse("%s is in use: %s; unmount it first", path, used)
	}
	swaps, err := h.swaps()
	if err != nil {
		return err
	}
	for _, s := range swaps {
		if part, ours := parts[s]; ours {
			return refuse("%s is in use: %s is swap space; swapoff it first", path, part)
		}
	}
	return h.checkHolders(path, dir)
}

// checkHolders refuses a disk on which another device is built.
func (h Host) checkHolders(path, dir string) error {
	for _, part := range append([]string{dir}, partitions(dir)...) {
		held := holders(part)
		if len(held) == 0 {
			continue
		}
		name := filepath.Base(held[0])
		if dm := word(held[0], "dm/name"); dm != "" {
			name += " (" + dm + ")"
		}
		return refuse("%s is in use: %s belongs to %s; close that first", path, filepath.Base(part), name)
	}
	return nil
}

// family returns the disk in dir, its partitions, and what is built upon them
// at any height: device number → name.
func (h Host) family(dir string) (map[devno]string, error) {
	found := map[devno]string{}
	var add func(string) error
	add = func(dir string) error {
		number, err := parseDevno(word(dir, "dev"))
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, "dev"), err)
		}
		if _, seen := found[number]; seen {
			return nil
		}
		found[number] = filepath.Base(dir)
		for _, next := range append(partitions(dir), holders(dir)...) {
			if err := add(next); err != nil {
				return err
			}
		}
		return nil
	}
	return found, add(dir)
}

// partitions returns the sysfs directories of a disk's partitions.
func partitions(dir string) (found []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if sub := filepath.Join(dir, e.Name()); e.IsDir() && exists(sub, "partition") {
			found = append(found, sub)
		}
	}
	return found
}

// holders returns the sysfs directories of the devices built upon one.
func holders(dir string) (found []string) {
	entries, _ := os.ReadDir(filepath.Join(dir, "holders"))
	for _, e := range entries {
		if to, err := filepath.EvalSymlinks(filepath.Join(dir, "holders", e.Name())); err == nil {
			found = append(found, to)
		}
	}
	return found
}

// mount is one line of mountinfo.
type mount struct {
	device devno
	target string
}

func (h Host) mounts() ([]mount, error) {
	var found []mount
	err := eachLine(filepath.Join(h.Proc, "self/mountinfo"), func(line string) error {
		fields := strings.Fields(line)
		_, after, ok := strings.Cut(line, " - ")
		source := strings.Fields(after)
		if !ok || len(fields) < 5 || len(source) < 2 {
			return fmt.Errorf("unexpected line %q", line)
		}
		number, err := parseDevno(fields[2])
		if err != nil {
			return err
		}
		// Filesystems of several devices (btrfs) show an anonymous number.
		if number.major == 0 {
			if real, ok := blockNumber(unescape(source[1])); ok {
				number = real
			}
		}
		found = append(found, mount{number, unescape(fields[4])})
		return nil
	})
	return found, err
}

func (h Host) swaps() ([]devno, error) {
	var found []devno
	err := eachLine(filepath.Join(h.Proc, "swaps"), func(line string) error {
		if fields := strings.Fields(line); len(fields) > 0 {
			if number, ok := blockNumber(unescape(fields[0])); ok {
				found = append(found, number)
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) { // a kernel without swap
		return nil, nil
	}
	return found, err
}

func blockNumber(path string) (devno, bool) {
	var st unix.Stat_t
	if !strings.HasPrefix(path, "/") || unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return devno{}, false
	}
	return devno{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, true
}

func parseDevno(s string) (devno, error) {
	major, minor, ok := strings.Cut(s, ":")
	a, errA := strconv.ParseUint(major, 10, 32)
	b, errB := strconv.ParseUint(minor, 10, 32)
	if !ok || errA != nil || errB != nil {
		return devno{}, fmt.Errorf("%q is not a device number", s)
	}
	return devno{uint32(a), uint32(b)}, nil
}

// unescape undoes what the kernel does to spaces and the like: \040.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func eachLine(path string, do func(string) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if err := do(lines.Text()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return lines.Err()
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// word reads a small sysfs file; what is not there is empty.
func word(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(b))
}

func number64(dir, name string) int64 {
	n, _ := strconv.ParseInt(word(dir, name), 10, 64)
	return n
}
