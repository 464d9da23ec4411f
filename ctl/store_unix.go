//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// readableByOthers says whether users other than the owner can read a file.
func readableByOthers(st fs.FileInfo) bool { return st.Mode().Perm()&0o077 != 0 }

// lockFile waits until no other process has f locked, and locks it until f is closed.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }

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
