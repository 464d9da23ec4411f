package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStories reads testdata/*.txt. A line is one round, "SERVER OFFSET [±DISTANCE],
// …" or "fails REASON" (and "slower" when a server asked for that), then "-> " and what timed does.
// An empty line begins the next story.
func TestStories(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) { tell(t, path) })
	}
}

func tell(t *testing.T, path string) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s state
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			s = state{}
		}
		if line == "" || line[0] == '#' {
			continue
		}
		event, want, _ := strings.Cut(line, "->")
		r, err := parseRound(strings.TrimSpace(event))
		if err != nil {
			t.Fatalf("%s:%d: %v", path, n, err)
		}
		var do correction
		s, do = s.next(r)
		if got, want := show(s, do), strings.TrimSpace(want); got != want {
			t.Errorf("%s:%d: %s\ngot  -> %s\nwant -> %s", path, n, strings.TrimSpace(event), got, want)
		}
	}
}

func parseRound(text string) (round, error) {
	var r round
	if text, r.slower = strings.CutSuffix(text, " slower"); strings.HasPrefix(text, "fails ") {
		r.failure = strings.TrimPrefix(text, "fails ")
		return r, nil
	}
	for part := range strings.SplitSeq(text, ", ") {
		words := strings.Fields(part)
		if len(words) < 2 {
			return r, fmt.Errorf("%q: want SERVER OFFSET [±DISTANCE]", part)
		}
		s := sample{server: words[0], distance: 10 * time.Millisecond}
		var err error
		if s.offset, err = time.ParseDuration(words[1]); err != nil {
			return r, err
		}
		if len(words) > 2 {
			if s.distance, err = time.ParseDuration(strings.TrimPrefix(words[2], "±")); err != nil {
				return r, err
			}
		}
		r.samples = append(r.samples, s)
	}
	return r, nil
}

func show(s state, do correction) string {
	what := []string{"nothing", "step", "slew"}[do]
	if do != nothing {
		what += fmt.Sprintf(" %v by %s", s.offset, s.server)
	}
	text := fmt.Sprintf("%s; synchronized %t; again in %v", what, s.synchronized, s.wait)
	if s.note != "" {
		text += "; note: " + s.note
	}
	if s.failure != "" {
		text += "; error: " + s.failure
	}
	return text
}
