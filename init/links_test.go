package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// TestPID1FollowsNoLinkOnTheDisk has a link where a daemon's directory should be, as a person
// with access to the disk leaves it.
func TestPID1FollowsNoLinkOnTheDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	w := &world{t: t, root: t.TempDir(), gone: make(chan struct{})}
	w.stage(testSystem(
		abi.Daemon{Name: "itself", Write: []string{"/var/lib/itself"}},
		abi.Daemon{Name: "below", Write: []string{"/var/lib/dir/below"}},
		abi.Daemon{Name: "plain", Write: []string{"/var/lib/plain"}},
	))
	if err := os.MkdirAll(filepath.Join(w.root, "var/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"itself", "dir"} {
		if err := os.Symlink("/state", filepath.Join(w.root, "var/lib", name)); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	c := w.control()
	for _, name := range []string{"itself", "below"} {
		w.eventually(name+" is not started", func() bool {
			d := w.daemon(c.Client, name)
			return d.State != up && strings.Contains(d.Reason, "a symbolic link is in the way")
		})
	}
	w.eventually("plain is up", func() bool { return w.daemon(c.Client, "plain").State == up })
	if left, err := os.ReadDir(filepath.Join(w.root, "state")); err != nil || len(left) > 0 {
		t.Errorf("on STATE PID 1 has made %v %v", left, err)
	}
}
