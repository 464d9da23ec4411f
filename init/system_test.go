package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

func TestDecodeSystem(t *testing.T) {
	good := testSystem(abi.Daemon{Name: "echo"})
	spoil := func(change func(*abi.System)) string {
		s := testSystem(abi.Daemon{Name: "echo"})
		change(s)
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	whole := spoil(func(*abi.System) {})
	if s, err := decodeSystem([]byte(whole)); err != nil || len(s.Daemons) != len(good.Daemons) {
		t.Fatalf("a good one: %v", err)
	}
	for what, text := range map[string]string{
		"unknown key":        strings.Replace(whole, `"exec"`, `"sandbox":true,"exec"`, 1),
		"wrong type":         strings.Replace(whole, `"tier":1`, `"tier":"1"`, 1),
		"two values":         whole + whole,
		"cut off":            whole[:len(whole)/2],
		"nothing":            "",
		"no daemons":         spoil(func(s *abi.System) { s.Daemons = nil }),
		"root":               spoil(func(s *abi.System) { s.Daemons[0].User = 0 }),
		"one user twice":     spoil(func(s *abi.System) { s.Daemons[0].User = s.Daemons[1].User }),
		"one name twice":     spoil(func(s *abi.System) { s.Daemons[0].Name = "tester" }),
		"named init":         spoil(func(s *abi.System) { s.Daemons[0].Name = "init" }),
		"path as a name":     spoil(func(s *abi.System) { s.Daemons[0].Name = "../x" }),
		"relative program":   spoil(func(s *abi.System) { s.Daemons[0].Exec = "bin/x" }),
		"path with dots":     spoil(func(s *abi.System) { s.Daemons[0].Write = []string{"/var/../etc"} }),
		"whole machine":      spoil(func(s *abi.System) { s.Daemons[0].Read = []string{"/"} }),
		"unknown capability": spoil(func(s *abi.System) { s.Daemons[0].Capabilities, s.Daemons[0].UserNS = []string{"CAP_CHOWN"}, false }),
		"powerless right":    spoil(func(s *abi.System) { s.Daemons[0].Capabilities = []string{"SYS_TIME"} }),
		"no limits":          spoil(func(s *abi.System) { s.Daemons[0].Limits = abi.Limits{} }),
		"unknown caller":     spoil(func(s *abi.System) { s.Daemons[0].Callers[0].Name = "stranger" }),
	} {
		if _, err := decodeSystem([]byte(text)); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

func TestCapabilityNames(t *testing.T) {
	set, err := capabilityMask([]string{"NET_RAW", "SYS_TIME", "CHECKPOINT_RESTORE"})
	if err != nil || set != 1<<13|1<<25|1<<40 {
		t.Fatalf("%#x %v", set, err)
	}
	if got := strings.Join(set.names(), " "); got != "NET_RAW SYS_TIME CHECKPOINT_RESTORE" {
		t.Error(got)
	}
	if _, err := capabilityMask([]string{"CAP_NET_RAW"}); err == nil {
		t.Error("names come without CAP_")
	}
}

func TestListenNameIsTheManifests(t *testing.T) {
	for want, l := range map[string]abi.Listen{
		"tcp:7400":           {Network: "tcp", Address: ":7400"},
		"tcp:127.0.0.1:7400": {Network: "tcp", Address: "127.0.0.1:7400"},
	} {
		if got := listenName(l); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Whose root has something of a volume waits until it is mounted.
func TestWhoNeedsNothingMounted(t *testing.T) {
	mounted := mountPoints(&abi.System{Daemons: []abi.Daemon{{Mount: []string{"/state", "/var"}}}})
	for _, c := range []struct {
		read, write []string
		free        bool
	}{
		{nil, nil, true},
		{[]string{"/etc/dactyl/routes.json", "/various"}, []string{"/run/logd"}, true},
		{nil, []string{"/state/trustd"}, false},
		{[]string{"/var"}, nil, false},
	} {
		if got := tierOf(abi.Daemon{Read: c.read, Write: c.write}, mounted).free; got != c.free {
			t.Errorf("reads %v, writes %v: free is %v", c.read, c.write, got)
		}
	}
}
