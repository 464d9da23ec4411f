package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ending is how the machine ends.
type ending int

const (
	powerOff ending = iota
	reboot
)

func (e ending) String() string {
	if e == reboot {
		return "reboot"
	}
	return "power off"
}

func (e ending) command() int {
	if e == reboot {
		return unix.LINUX_REBOOT_CMD_RESTART
	}
	return unix.LINUX_REBOOT_CMD_POWER_OFF
}

const (
	// killPatience is how long processes may take to vanish after SIGKILL.
	killPatience = 2 * time.Second
	// diskPatience is how long a disk may take to write what it owes; after that
	// it is broken and would never end.
	diskPatience = 20 * time.Second
)

// killEverything ends whatever is left and reaps it.
func killEverything() {
	unix.Kill(-1, unix.SIGKILL)
	for end := time.Now().Add(killPatience); time.Now().Before(end); {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.ECHILD {
			return
		}
		if pid == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// releaseVolumes writes everything out and unmounts what storaged mounted.
func releaseVolumes() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		unix.Sync()
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			shout("%v", err)
		}
		for _, dir := range volumes(string(mounts)) {
			if err := release(dir); err != nil {
				shout("%v", err)
			}
		}
		unix.Sync()
	}()
	select {
	case <-done:
	case <-time.After(diskPatience):
		shout("the disks do not answer")
	}
}

// release ends writing to what is mounted on dir and unmounts it. That it is
// read-only holds for its other mounts too: those of a domain go some time after
// its last process, and until then the file system is not unmounted for good.
func release(dir string) error {
	readOnly := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if err := unix.Unmount(dir, 0); err != nil && readOnly != nil {
		return fmt.Errorf("unmount %s: %w; make it read-only: %w", dir, err, readOnly)
	}
	return nil
}

// volumes returns the mount points at and below the directories that storaged
// mounts on, deepest first, last mounted first.
func volumes(mountinfo string) []string {
	var dirs []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		for _, top := range []string{"/boot", "/state", "/var"} {
			if fields[4] == top || strings.HasPrefix(fields[4], top+"/") {
				dirs = append(dirs, fields[4])
			}
		}
	}
	slices.Reverse(dirs)
	slices.SortStableFunc(dirs, func(a, b string) int {
		return cmp.Compare(strings.Count(b, "/"), strings.Count(a, "/"))
	})
	return dirs
}
