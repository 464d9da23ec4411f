package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A script says what the keeper sees, line by line: the time, and what has changed
// since the line before (sizes in MiB); behind -> is what it does, behind | what it says.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { play(t, path) })
	}
}

func play(t *testing.T, path string) {
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := seen{keeps: true, copied: begin}
	var m memory
	n := 0
	for line := range strings.Lines(string(script)) {
		n++
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if line == "" {
			continue
		}
		what, want, _ := strings.Cut(line, "->")
		for word := range strings.FieldsSeq(what) {
			if err := s.change(begin, word); err != nil {
				t.Fatalf("%s:%d: %s: %v", path, n, word, err)
			}
		}
		var do []action
		m, do = next(m, s)
		got := join(do)
		s.obey(do)
		if trouble := s.trouble(m); trouble != "" {
			got += " | " + trouble
		}
		if want = strings.TrimSpace(want); strings.TrimSpace(got) != want {
			t.Errorf("%s:%d: %s\n  does %s\n  want %s", path, n, strings.TrimSpace(what), got, want)
		}
	}
}

func (s *seen) change(begin time.Time, word string) error {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "t", "copied":
		d, err := time.ParseDuration(value)
		if key == "t" {
			s.serving, s.now = d, begin.Add(d)
		} else {
			s.copied = begin.Add(d)
		}
		return err
	case "refusing":
		s.refusing = true
		return nil
	}
	number, err := strconv.ParseInt(value, 10, 64)
	field, known := map[string]*int64{"file": &s.file, "used": &s.inUse, "quota": &s.quota, "disk": &s.disk, "free": &s.free}[key]
	if !known {
		return fmt.Errorf("not a word of scripts")
	}
	*field = number * mib
	return err
}

// obey does to what is seen what the actions would.
func (s *seen) obey(do []action) {
	s.refusing = (s.refusing || slices.Contains(do, refuseWrites)) && !slices.Contains(do, takeWrites)
	s.reserved = (s.reserved || slices.Contains(do, takeReserve)) && !slices.Contains(do, giveReserve)
	if slices.Contains(do, defragment) {
		s.file = s.inUse
	}
	if slices.Contains(do, backup) {
		s.copied = s.now
	}
}

func join(do []action) string {
	var words []string
	for _, a := range do {
		words = append(words, string(a))
	}
	return strings.Join(words, ", ")
}

func TestQuota(t *testing.T) {
	for disk, want := range map[int64]int64{256 * mib: 64 * mib, 4096 * mib: 512 * mib, 100_000 * mib: 2048 * mib} {
		if got := quotaOf(disk); got != want {
			t.Errorf("a disk of %d MiB: %d MiB, want %d", disk/mib, got/mib, want/mib)
		}
	}
}
