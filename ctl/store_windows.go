package main

import (
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

// readableByOthers is false: Windows has no mode bits, and the user's profile, in
// which contexts.yaml is, has an access list that admits its owner only.
func readableByOthers(fs.FileInfo) bool { return false }

// lockFile waits until no other process has f locked, and locks it until f is closed.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, math.MaxUint32, math.MaxUint32, new(windows.Overlapped))
}

// syncDir does nothing: NTFS journals renames, and a directory cannot be flushed.
func syncDir(string) error { return nil }
