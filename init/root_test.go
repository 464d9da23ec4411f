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
