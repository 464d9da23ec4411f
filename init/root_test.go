package main

import (
	"errors"
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

// TestMakeOwnedFollowsNoLink has a link at the name that a directory has until it is its
// daemon's, and one above it.
func TestMakeOwnedFollowsNoLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give a directory away")
	}
	const user = 106
	top := t.TempDir()
	others, dir := filepath.Join(top, "others"), filepath.Join(top, "lib", "daemon")
	for _, made := range []string{others, filepath.Dir(dir)} {
		if err := os.Mkdir(made, 0o751); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{dir + ".new", filepath.Join(top, "link")} {
		if err := os.Symlink(others, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := makeOwned(dir, user, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := makeOwned(filepath.Join(top, "link", "daemon"), user, 0o700); !errors.Is(err, unix.ELOOP) {
		t.Errorf("below a link: %v, want ELOOP", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != user {
		t.Errorf("%s: user %d, mode %o (%v), want a directory of %d's", dir, st.Uid, st.Mode, err, user)
	}
	if err := unix.Lstat(others, &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o751 {
		t.Errorf("where the links point: user %d, mode %o (%v), want it unchanged", st.Uid, st.Mode, err)
	}
	if left, err := os.ReadDir(others); err != nil || len(left) > 0 {
		t.Errorf("where the links point: %v %v", left, err)
	}
}
