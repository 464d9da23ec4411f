package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dactyl-os/dactyl/ipc/words"
)

// TestStories plays testdata/supervise: each line is a moment, what happens
// then, and what PID 1 does about it. A line that lets a deadline pass without a
// tick is an error of the story.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/supervise/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { play(t, file) })
	}
}

func play(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := story{t: t}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		what, want, _ := strings.Cut(line, "->")
		if got := s.line(strings.Fields(what)); got != strings.TrimSpace(want) {
			t.Fatalf("%s:%d: %s\n got %s\nwant %s", file, n, strings.TrimSpace(what), got, strings.TrimSpace(want))
		}
	}
}

type story struct {
	t     *testing.T
	fleet *fleet
}

var dawn = time.Unix(0, 0)

func (s *story) line(words []string) string {
	if words[0] == "daemons" {
		s.fleet = newFleet(cast(s.t, words[1:]))
		return ""
	}
	at, err := time.ParseDuration(words[0])
	if err != nil {
		s.t.Fatal(err)
	}
	now := dawn.Add(at)
	if wake := s.fleet.wake(); !wake.IsZero() && wake.Before(now) {
		s.t.Fatalf("%v: the tick at %v is missing", at, wake.Sub(dawn))
	}
	return s.happen(words[1], words[2:], now)
}

func cast(t *testing.T, words []string) []daemonTier {
	var all []daemonTier
	for _, w := range words {
		options := strings.Split(w, ":")
		n, err := strconv.Atoi(options[1])
		if err != nil {
			t.Fatal(err)
		}
		d := daemonTier{name: daemonName(options[0]), tier: n, binary: "image"}
		for _, option := range options[2:] {
			option, value, _ := strings.Cut(option, "=")
			switch option {
			case "mounts":
				d.mounts = true
			case "free":
				d.free = true
			case "last":
				d.last = true
			case "request":
				d.onRequest = true
			case "alone":
				d.alone = true
			case "foreign":
				d.foreign = true
			case "stop":
				d.grace, err = time.ParseDuration(value)
			case "in":
				d.domain = daemonName(value)
			default:
				err = fmt.Errorf("%s: what is %s", w, option)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, d)
	}
	return all
}

func (s *story) happen(what string, args []string, now time.Time) string {
	switch what {
	case "boot":
		return told(s.fleet.boot(now))
	case "end":
		return told(s.fleet.end(now))
	case "tick":
		return told(s.fleet.tick(now))
	case "show":
		u := s.fleet.unit(daemonName(args[0]))
		return strings.TrimSpace(fmt.Sprintf("%s %s", words.Of(u.state), u.reason))
	}
	name, id, _ := strings.Cut(args[0], "#")
	e := event{what: eventKind(what)}
	e.id, _ = strconv.Atoi(id)
	switch e.what {
	case evExit:
		e.code, _ = strconv.Atoi(args[1])
	case evLost:
		e.reason = strings.Join(args[1:], " ")
	case evRestart:
		e.request, _ = strconv.Atoi(args[1])
		e.binary = args[2]
	case evRequest, evQuit:
		e.request, _ = strconv.Atoi(args[1])
		e.args = args[2:]
	}
	return told(s.fleet.handle(daemonName(name), e, now))
}

func told(actions []action) string {
	var words []string
	for _, a := range actions {
		who := fmt.Sprintf("%s#%d", a.name, a.id)
		switch a.what {
		case actReport:
		case actLaunch:
			words = append(words, strings.Join(append([]string{"launch", who, a.binary}, a.args...), " "))
		case actTerm, actKill:
			words = append(words, fmt.Sprintf("%s %s", a.what, who))
		case actAnswer:
			if a.answer.code != codes.OK {
				who = a.answer.reason
			}
			words = append(words, fmt.Sprintf("answer %d %s: %s", a.answer.request, a.answer.code, who))
		default:
			words = append(words, strings.TrimSpace(fmt.Sprintf("%s %s", a.what, a.name)))
		}
	}
	if words == nil {
		return "nothing"
	}
	return strings.Join(words, "; ")
}
