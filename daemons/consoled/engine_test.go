package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// A script says what peers have answered (version, daemon, program, address, pairing,
// claimed, kube, cluster) or that the serial line is deaf or hearing again, and then either "at TIME", with what the serial line gets, or
// "screen"; lines that begin with | are what is shown.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var s story
			for text := range strings.Lines(string(script)) {
				s.line(t, strings.TrimRight(text, "\n"))
			}
			s.check(t)
		})
	}
}

type story struct {
	v         view
	addresses []string
	daemons   []daemon
	p         pace
	deaf      bool // the serial line takes nothing
	asked     string
	got, want []string
}

func (s *story) line(t *testing.T, text string) {
	word, rest, _ := strings.Cut(text, " ")
	if word == "|" || word == "next" {
		s.want = append(s.want, text)
		return
	}
	s.check(t)
	s.asked, s.got = text, nil
	switch word {
	case "", "#":
	case "at":
		at, err := time.ParseDuration(rest)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1e9, 0).Add(at)
		print, wait := s.p.next(s.v, now)
		if print != "" && !s.deaf {
			s.p.did(print, now)
		}
		s.got = append(shown(print), fmt.Sprint("next look in ", wait))
	case "screen":
		s.got = shown(s.v.screen())
	default:
		s.answer(t, word, rest)
	}
}

func (s *story) answer(t *testing.T, word, rest string) {
	f := append(strings.Fields(rest), "", "", "", "")
	switch word {
	case "version":
		s.v.system = &system{version: f[0], mode: f[1], kernel: f[2], hostname: f[3]}
	case "address":
		s.addresses = append(s.addresses, f[0])
		all := reachable(slices.Clone(s.addresses))
		s.v.addresses = &all
	case "pairing":
		s.v.pairing = &pairing{code: f[0], fingerprint: f[1]}
	case "claimed":
		s.v.pairing = &pairing{fingerprint: f[0]}
	case "kube":
		rest = strings.ReplaceAll(rest, `\x1b`, "\x1b")
		s.v.kube = &cluster{state: kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED, message: rest}
	case "cluster":
		_, message, _ := strings.Cut(rest, ": ")
		state := kube.ClusterState_CLUSTER_STATE_NOT_READY
		if f[0] == "ready" {
			state = kube.ClusterState_CLUSTER_STATE_READY
		}
		s.v.kube = &cluster{state, f[1], strings.TrimSuffix(f[2], ":"), message}
	case "deaf", "hearing":
		s.deaf = word == "deaf"
	case "daemon", "program":
		_, reason, _ := strings.Cut(strings.TrimPrefix(rest, f[0]+" "), " ")
		state, known := words.Parse[machine.DaemonState](f[1])
		if !known {
			t.Fatalf("%q is no state of a daemon", f[1])
		}
		d := daemon{name: f[0], state: state, reason: reason, onRequest: word == "program"}
		if i := slices.IndexFunc(s.daemons, func(have daemon) bool { return have.name == d.name }); i >= 0 {
			s.daemons[i] = d
		} else {
			s.daemons = append(s.daemons, d)
		}
		s.v.daemons = &s.daemons
	default:
		t.Fatalf("unknown: %s %s", word, rest)
	}
}

func (s *story) check(t *testing.T) {
	t.Helper()
	if !slices.Equal(s.got, s.want) {
		t.Errorf("%s:\n%s\nwant\n%s", s.asked, strings.Join(s.got, "\n"), strings.Join(s.want, "\n"))
	}
	s.got, s.want = nil, nil
}

// shown returns text as scripts have it.
func shown(text string) []string {
	var out []string
	for l := range strings.Lines(text) {
		out = append(out, strings.TrimRight("| "+l, " \n"))
	}
	return out
}
