//go:build !linux

package flash

import (
	"os"
	"runtime"
)

// Host is a computer on which dactyl writes plain files only.
type Host struct{}

// ThisHost is the computer that this program runs on.
var ThisHost Host

// Check refuses every disk: how a system shows which disk is its own, and what of it is in
// use, is known of Linux only.
func (Host) Check(path string, _ int64) (Disk, error) {
	return Disk{}, refuse("writing to a disk is not supported on %s: flash %s on a Linux computer, or write the image to a plain file (--file) and that to the disk with a tool of this system", runtime.GOOS, path)
}

// OpenDevice is never reached: Check comes first.
func (h Host) OpenDevice(d Disk) (*Target, error) {
	_, err := h.Check(d.Path, 0)
	return nil, err
}

func (*Target) rereadTable() {}

func (*Target) zeroBlocks(int64, int64) error { panic("BUG: a disk on a system without disks") }

// forget does nothing: a plain file is read back through the system's cache.
func (*Target) forget() error { return nil }

func (t *Target) flush() error { return t.file.Sync() }

func inHole(*os.File, int64, int64) bool { return false }
