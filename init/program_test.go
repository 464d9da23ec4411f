package main

import (
	"flag"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write testdata/program anew")

// TestProgram compares what a process does before its daemon's first
// instruction with testdata/program, where it can be read as a page.
func TestProgram(t *testing.T) {
	plain := blueprint{
		path: "/lib/dactyl/timed", args: []string{"timed"}, user: 105, userNS: true, own: 1<<41 - 1, lastRight: 40, oomScore: daemonOOMScore, threads: true,
		files: openFiles, mounts: []attach{{7, "lib/dactyl/timed"}, {8, "run/ipc"}, {9, "dev"}}, stdio: []int{600, 601, 601, 602, 603},
	}
	granted := plain
	granted.path, granted.user, granted.userNS, granted.hostNet = "/lib/dactyl/networkd", 104, false, true
	granted.rights, _ = capabilityMask([]string{"NET_ADMIN", "NET_RAW"})
	foreign := plain
	foreign.path, foreign.user, foreign.filter, foreign.files = "/usr/bin/kube-apiserver", 111, make([]byte, 16), 65536
	first := granted
	first.path, first.user, first.place, first.mounts = "/lib/pods/pause", 0, makesDomain, []attach{{7, "lib/pods"}, {8, "dev"}, {9, "dev/pts"}}
	first.rights = 1<<41 - 1
	member := first
	member.path, member.place, member.rights, member.report = "/lib/pods/bin/kube-proxy", joinsDomain, 1<<unix.CAP_NET_ADMIN, 700
	member.stdio = []int{600, 601, 601}
	for name, b := range map[string]blueprint{
		"user_namespace": plain, "capabilities": granted, "foreign": foreign, "domain_first": first, "domain_member": member,
	} {
		file := "testdata/program/" + name + ".txt"
		got := programFor(b).String()
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: now\n%s", file, got)
		}
	}
}
