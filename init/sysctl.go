package main

import (
	"fmt"
	"os"
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
