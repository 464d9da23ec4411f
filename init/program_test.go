package main

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/program anew")

// TestProgram compares what a process does before its daemon's first
// instruction with testdata/program, where it can be read as a page.
func TestProgram(t *testing.T) {
	plain := blueprint{
		path: "/lib/dactyl/timed", args: []string{"timed"}, user: 105, userNS: true, own: 1<<41 - 1, lastRight: 40, oomScore: daemonOOMScore,
		files: openFiles, mounts: []attach{{7, "lib/dactyl/timed"}, {8, "run/ipc"}, {9, "dev"}}, stdio: []int{600, 601, 601, 602, 603},
	}
	granted := plain
	granted.path, granted.user, granted.userNS, granted.hostNet = "/lib/dactyl/networkd", 104, false, true
	granted.rights, _ = capabilityMask([]string{"NET_ADMIN", "NET_RAW"})
	for file, b := range map[string]blueprint{"testdata/program/user_namespace.txt": plain, "testdata/program/capabilities.txt": granted} {
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
