package main

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A power cut may come when a daemon's directory has been made and is still root's.
func TestPowerCutWhileADirectoryIsMade(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give a directory away")
	}
	const user = 106
	dir := filepath.Join(t.TempDir(), "state", "trustd")
	if err := os.MkdirAll(dir+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds it made
		if err := makeOwned(dir, user, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Uid != user || st.Gid != user || st.Mode&0o777 != 0o700 {
		t.Errorf("%d:%d %o (%v), want %d's alone", st.Uid, st.Gid, st.Mode&0o777, err, user)
	}
}

// A node has whatever name somebody with devtmpfs mounted has given it.
func TestNodeIsWhatItsNameSays(t *testing.T) {
	for _, node := range []struct {
		name         string
		kind         uint32
		major, minor uint32
		good         bool
	}{
		{"null", unix.S_IFCHR, 1, 3, true},
		{"random", unix.S_IFCHR, 1, 8, true},
		{"null", unix.S_IFCHR, 1, 8, false},
		{"rando", unix.S_IFCHR, 1, 8, false},
		{"null", unix.S_IFBLK, 8, 0, false},
		{"null", unix.S_IFCHR, 1, 200, false},
	} {
		if err := checkNode(node.name, node.kind, unix.Mkdev(node.major, node.minor)); (err == nil) != node.good {
			t.Errorf("%s as %o %d:%d: %v", node.name, node.kind, node.major, node.minor, err)
		}
	}
}
