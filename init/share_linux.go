package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// shareMode lets the giver write and the receiver's group read. The set-group-ID
// bit gives the receiver's group to whatever appears inside, which a giver in a
// user namespace could not do: the group does not exist there.
const shareMode = 0o2750

// makeShares makes a directory for every pair of daemons of which one writes files
// for the other. They are root's own up to the last, so that no giver changes what
// another's receiver sees.
func makeShares(s *abi.System) error {
	for _, d := range s.Daemons {
		for _, giver := range d.From {
			dir := shareDir(giver, d.Name)
			if err := makeDir(filepath.Dir(dir), 0o755); err != nil {
				return err
			}
			if err := makeShare(dir, int(userOf(s, giver)), int(d.User)); err != nil {
				return fmt.Errorf("what %s gives %s: %w", giver, d.Name, err)
			}
		}
	}
	return nil
}

func makeShare(dir string, giver, receiver int) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chown(dir, giver, receiver); err != nil {
		return err
	}
	return unix.Chmod(dir, shareMode)
}

func shareDir(giver, receiver string) string { return filepath.Join(abi.ShareDir, giver, receiver) }

// bindShares shows d what it gives, writable, and what it is given, read-only.
func (r *daemonRoot) bindShares(d abi.Daemon) error {
	if d.Gives {
		dir := filepath.Join(abi.ShareDir, d.Name)
		if err := r.bind(dir, dir, closed&^unix.MOUNT_ATTR_RDONLY, unix.MS_PRIVATE); err != nil {
			return err
		}
	}
	for _, giver := range d.From {
		dir := shareDir(giver, d.Name)
		if err := r.bind(dir, dir, closed, unix.MS_PRIVATE); err != nil {
			return err
		}
	}
	return nil
}
