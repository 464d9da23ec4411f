package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// applySysctls writes the key=value lines of a file below root (/proc/sys) and
// returns one error for each that the kernel does not take: a kernel that lacks
// a key is no reason not to boot.
func applySysctls(file, root string) []error {
	text, err := os.ReadFile(file)
	if err != nil {
		return []error{err}
	}
	var errs []error
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %q is not key=value", file, line))
			continue
		}
		path := root + "/" + strings.ReplaceAll(strings.TrimSpace(key), ".", "/")
		if err := writeExisting(path, strings.TrimSpace(value)); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// minConntrack is how many connections the kernel keeps track of at least, as kube-proxy
// would set it. The kernel's own maximum is 8192 on 1 GiB, which one pod can fill.
const minConntrack = 131072

// maxConntrack is enough for any edge node.
const maxConntrack = 1 << 20

// conntrackMemory is how much of the machine's memory there is for each connection: an entry
// takes about 320 bytes, so that a full table takes a 25th.
const conntrackMemory = 8 << 10

// conntrackLimit returns the size of the table on a machine with this memory.
func conntrackLimit(memory uint64) uint64 {
	return max(minConntrack, min(maxConntrack, memory/conntrackMemory))
}

// setConntrack sets the size of the table. The number of its buckets goes first: the kernel
// sets the maximum by it.
func setConntrack(root string) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return fmt.Errorf("sysinfo: %w", err)
	}
	limit := conntrackLimit(info.Totalram * uint64(info.Unit))
	for _, s := range []struct {
		name  string
		value uint64
	}{{"nf_conntrack_buckets", limit / 4}, {"nf_conntrack_max", limit}} {
		if err := writeExisting(root+"/net/netfilter/"+s.name, strconv.FormatUint(s.value, 10)); err != nil {
			return err
		}
	}
	return nil
}

// writeExisting writes to one of the kernel's files.
func writeExisting(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// advanceClock sets the clock to epoch if it is before it: a machine without a
// battery must not believe it is 1970, where no certificate is valid yet.
func advanceClock(epoch int64) error {
	if time.Now().Unix() >= epoch {
		return nil
	}
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: epoch}); err != nil {
		return fmt.Errorf("set the clock to %d: %w", epoch, err)
	}
	return nil
}
