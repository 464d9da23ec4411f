package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/storaged/internal/ext4"
	"golang.org/x/sys/unix"
)

const staticE2fsck = "/sbin/e2fsck.static"

// imageFile is a file system in a file, and a machine that repairs it.
type imageFile struct {
	t   *testing.T
	m   *machine
	log strings.Builder
}

// imageBlocks is more than a block group: the second has a copy of the superblock.
const imageBlocks = 256 << 20 / 4096

func newImageFile(t *testing.T, program string) *imageFile {
	t.Helper()
	if _, err := os.Stat(staticE2fsck); err != nil {
		t.Skip("e2fsck.static is not installed (package e2fsck-static)")
	}
	i := &imageFile{t: t}
	i.m = &machine{dev: t.TempDir(), check: newChecker(t.Context(), program, slog.New(slog.NewTextHandler(&i.log, nil)))}
	truncate(t, i.path(), imageBlocks*4096>>20)
	files := t.TempDir()
	if err := os.WriteFile(filepath.Join(files, "file"), content(), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append(mkfs("EPHEMERAL"), "-d", files)
	i.tool(args[0], append(args[1:], i.path())...)
	return i
}

// content is more than fits into an inode.
func content() []byte { return bytes.Repeat([]byte("content\n"), 10_000) }

// keeps checks that the file is as it was.
func (i *imageFile) keeps() {
	i.t.Helper()
	if got := i.tool("debugfs", "-R", "cat /file", i.path()); !strings.HasSuffix(got, string(content())) {
		i.t.Errorf("the file is %d bytes of other content", len(got))
	}
}

func (i *imageFile) path() string { return i.m.node("image") }

func (i *imageFile) tool(name string, args ...string) string {
	i.t.Helper()
	out, err := exec.Command("/usr/sbin/"+name, args...).CombinedOutput()
	if err != nil {
		i.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// debugfs changes the file system as no kernel would.
func (i *imageFile) debugfs(request string) {
	i.t.Helper()
	i.tool("debugfs", "-w", "-R", request, i.path())
}

func (i *imageFile) hasErrors() bool {
	i.t.Helper()
	f, err := os.Open(i.path())
	if err != nil {
		i.t.Fatal(err)
	}
	defer f.Close()
	super, err := ext4.ReadSuperblock(f)
	if err != nil {
		i.t.Fatal(err)
	}
	return super.HasErrors
}

// clean asks e2fsck, which changes nothing.
func (i *imageFile) clean() {
	i.t.Helper()
	i.tool("e2fsck", "-fn", i.path())
}

func (i *imageFile) overwrite(block int64, blocks int) {
	i.t.Helper()
	f, err := os.OpenFile(i.path(), os.O_RDWR, 0)
	if err != nil {
		i.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte("garbage!"), 512*blocks), block*4096); err != nil {
		i.t.Fatal(err)
	}
}

// One wrong checksum of a block bitmap, with the flag that the kernel then sets.
func TestRepairOfABlockBitmap(t *testing.T) {
	i := newImageFile(t, staticE2fsck)
	i.debugfs("set_super_value state 3")
	i.debugfs("set_bg 0 block_bitmap_csum 0x1234")
	if !i.hasErrors() {
		t.Fatal("the error flag is not seen")
	}
	if err := i.m.repair("image"); err != nil {
		t.Fatalf("%v\n%s", err, &i.log)
	}
	if i.hasErrors() {
		t.Error("the error flag is still set")
	}
	i.clean()
	i.keeps()
	if !strings.Contains(i.log.String(), "e2fsck") {
		t.Errorf("the log does not say what was repaired:\n%s", &i.log)
	}
}

// What is more than one checksum: what it is repaired from is its copy, or nothing.
func TestRepairOfMore(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(*imageFile)
		keeps  bool
	}{
		"group descriptors": {func(i *imageFile) { i.overwrite(1, 2) }, true},
		"superblock":        {func(i *imageFile) { i.overwrite(0, 1) }, true},
		"journal":           {func(i *imageFile) { i.debugfs("clri <8>") }, true},
		"root directory":    {func(i *imageFile) { i.debugfs("clri <2>") }, false}, // they are in lost+found
	} {
		t.Run(name, func(t *testing.T) {
			i := newImageFile(t, staticE2fsck)
			c.damage(i)
			if err := i.m.repair("image"); err != nil {
				t.Fatalf("%v\n%s", err, &i.log)
			}
			i.clean()
			if c.keeps {
				i.keeps()
			}
			// Without a journal the kernel would not mount it: data=ordered.
			if out := i.tool("dumpe2fs", "-h", i.path()); !strings.Contains(out, "has_journal") {
				t.Errorf("the journal is gone:\n%s", out)
			}
		})
	}
}

// What is no file system is not repaired.
func TestRepairOfNothing(t *testing.T) {
	i := newImageFile(t, staticE2fsck)
	i.overwrite(0, imageBlocks)
	if err := i.m.repair("image"); err == nil {
		t.Error("garbage was repaired")
	}
}

// script is a program that behaves like e2fsck in trouble.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "e2fsck")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// untilLimited waits in a script for the limit of memory, which storaged sets when the program
// has started.
const untilLimited = "while test $(ulimit -d) = unlimited; do :; done"

func TestRepairsExitCodes(t *testing.T) {
	for _, c := range []struct {
		code       int
		ok, beyond bool
	}{
		{0, true, false}, {1, true, false}, {3, true, false},
		{4, false, true}, {5, false, true}, {8, false, false}, {12, false, false}, {32, false, false},
	} {
		i := newImageFile(t, script(t, fmt.Sprintf("exit %d", c.code)))
		err := i.m.repair("image")
		if (err == nil) != c.ok || errors.Is(err, errBeyondRepair) != c.beyond {
			t.Errorf("exit code %d: %v", c.code, err)
		}
	}
}

// A repair ends at its deadline, and is not taken for a judgement of the content. The
// deadline is of all repairs: the next one does not begin.
func TestRepairIsBoundedInTime(t *testing.T) {
	i := newImageFile(t, script(t, "exec sleep 1000"))
	i.m.check.start = func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(t.Context(), 100*time.Millisecond)
	}
	for range 2 {
		err := i.m.repair("image")
		if err == nil || errors.Is(err, errBeyondRepair) || !strings.Contains(err.Error(), "not finished") {
			t.Errorf("%v", err)
		}
	}
}

// e2fsck that wants more memory than it may have fails, and storaged goes on.
func TestRepairIsBoundedInMemory(t *testing.T) {
	i := newImageFile(t, script(t, untilLimited+"; exec "+staticE2fsck+` "$@"`))
	i.m.check.memory = 256 << 10
	if err := i.m.repair("image"); err == nil || errors.Is(err, errBeyondRepair) {
		t.Errorf("%v", err)
	}
	i.clean()
}

// asDaemon is set in a process of this test that has capabilities as storaged has them.
const asDaemon = "DACTYL_TEST_AS_DAEMON"

// e2fsck gets neither capabilities nor the environment of storaged, whose capabilities are
// ambient: a program that it starts would inherit them.
func TestRepairsRights(t *testing.T) {
	if os.Getenv(asDaemon) != "" {
		startWithoutRights(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root gives ambient capabilities to others")
	}
	dir, err := os.MkdirTemp("", "rights")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const user = 65534
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestRepairsRights$", "-test.v")
	c.Env = []string{asDaemon + "=secret", "TMPDIR=" + dir}
	c.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: user, Gid: user},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
	}
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func startWithoutRights(t *testing.T) {
	i := newImageFile(t, script(t, "grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status; env; "+untilLimited+"; ulimit -d; ulimit -s"))
	mine, err := os.ReadFile("/proc/thread-self/status")
	if want := fmt.Sprintf("CapAmb:\t%016x", 1<<unix.CAP_SYS_ADMIN); err != nil || !strings.Contains(string(mine), want) {
		t.Fatalf("%v, the test has not %s:\n%s", err, want, mine)
	}
	if err := i.m.repair("image"); err != nil {
		t.Fatal(err)
	}
	log := i.log.String()
	if strings.Count(log, "0000000000000000") != 3 || strings.Contains(log, "secret") {
		t.Errorf("e2fsck has rights or the environment of storaged:\n%s", log)
	}
	if !strings.Contains(log, fmt.Sprintf("says=%d\n", checkMemory>>10)) || !strings.Contains(log, fmt.Sprintf("says=%d\n", checkStack>>10)) || !strings.Contains(log, "MALLOC_ARENA_MAX=1") {
		t.Errorf("e2fsck sees\n%s", log)
	}
	// The other threads keep them: storaged has more to mount. The thread without them may
	// be the main one, which Go's runtime parks instead of ending it.
	after, err := os.ReadFile("/proc/thread-self/status")
	if err != nil || !strings.Contains(string(after), fmt.Sprintf("CapAmb:\t%016x", 1<<unix.CAP_SYS_ADMIN)) {
		t.Errorf("%v, storaged's capabilities are gone:\n%s", err, after)
	}
}

func TestReportIsBounded(t *testing.T) {
	var r report
	for n := range 1000 {
		fmt.Fprintf(&r, "line %d %s\n\n", n, strings.Repeat("x", 1000))
	}
	r.Write([]byte("last"))
	var b strings.Builder
	r.tell(slog.New(slog.NewTextHandler(&b, nil)), "sda5")
	if len(r.lines) != reportLines || r.more != 1001-reportLines || len(r.lines[0]) != maxLine {
		t.Errorf("%d lines and %d more, the first of %d bytes", len(r.lines), r.more, len(r.lines[0]))
	}
}

// SIGTERM during a repair is no result: storaged neither mounts nor makes anything again.
func TestSettleEndsWithItsContext(t *testing.T) {
	w := newWorld()
	w.flash(8 << 10)
	if err := w.boot(); err != nil {
		t.Fatal(err)
	}
	w.content["EPHEMERAL"].hasErrors = true
	ctx, cancel := context.WithCancel(t.Context())
	k := &ending{w, cancel}
	_, err := settle(ctx, k, newEngine(), slog.New(slog.DiscardHandler))
	if !errors.Is(err, context.Canceled) || w.mounted[ephemeral] != "" {
		t.Errorf("%v, and /var is %q", err, w.mounted[ephemeral])
	}
}

// ending is told to end during the repair.
type ending struct {
	*world
	end func()
}

func (k *ending) do(s step, o observation) error {
	if s.verb == repair {
		k.end()
		return errors.New("killed")
	}
	return k.world.do(s, o)
}
