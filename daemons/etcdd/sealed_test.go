package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc/etcd"
	"github.com/dactyl-os/dactyl/test/alone"
)

// kills is how often etcdd is killed, and writers how many write meanwhile.
const (
	kills   = 25
	writers = 8
)

// TestNoAcknowledgedWriteIsLost kills the sealed program again and again while it is
// written to. What was acknowledged must be there afterwards, and nothing that was not sent.
func TestNoAcknowledgedWriteIsLost(t *testing.T) {
	w := newWorld(t)
	d := w.alone()
	for _, word := range []string{"landlock=", "seccomp=1"} {
		if !strings.Contains(d.Ready, word) {
			t.Errorf("ready line %q", d.Ready)
		}
	}
	c := w.client()
	last := make([]int, writers) // acknowledged
	written := 0
	for range kills {
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() { last[i] = write(ctx, c, i, last[i]) })
		}
		before := last[0]
		time.Sleep(time.Duration(20+rand.IntN(300)) * time.Millisecond) // the moment of its death
		d.Kill()
		cancel()
		all.Wait()
		written += last[0] - before
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
		w.until(serving)
		for i, want := range last {
			if got := count(t, c, i); got < want || got > want+1 {
				t.Fatalf("writer %d: %d keys are there, %d were acknowledged", i, got, want)
			} else {
				last[i] = got
			}
		}
	}
	if written == 0 {
		t.Error("the first writer wrote nothing at all")
	}
	t.Logf("%d kills, writes of each writer %v", kills, last)
	if code, err := d.Stop(); code != 0 || err != nil {
		t.Errorf("exit code %d, %v\n%s", code, err, d.Log())
	}
}

// write writes keys one after the other until the first error, and returns how many
// were acknowledged in all.
func write(ctx context.Context, c *clientv3.Client, writer, from int) int {
	for n := from; ; n++ {
		if _, err := c.Put(ctx, fmt.Sprintf("%d/%08d", writer, n), value(n)); err != nil {
			return n
		}
	}
}

// value is large enough that the log goes through several files.
func value(n int) string { return fmt.Sprint(n, strings.Repeat(" ", 3000)) }

// count returns how many keys of a writer are there, and fails if one is missing
// in between.
func count(t *testing.T, c *clientv3.Client, writer int) int {
	t.Helper()
	r, err := c.Get(t.Context(), fmt.Sprintf("%d/", writer), clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for n, kv := range r.Kvs {
		if want := fmt.Sprintf("%d/%08d", writer, n); string(kv.Key) != want || string(kv.Value) != value(n) {
			t.Fatalf("key %d of writer %d is %s = %.20s…, want %s", n, writer, kv.Key, kv.Value, want)
		}
	}
	return len(r.Kvs)
}

// TestRepairBehindTheSeal has the sealed program find damage: with a copy it mends it, without
// one it says so and is not to be started again.
func TestRepairBehindTheSeal(t *testing.T) {
	w := newWorld(t)
	d := w.alone()
	w.put(w.client(), "a", "1")
	if code, err := d.Stop(); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v\n%s", code, err, d.Log())
	}
	w.dir = dir{filepath.Join(d.Root, dataDir)}
	w.spoil(filepath.Join(w.dir.wal(), "*.wal"), 300, 300)
	w.died()
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	w.until(func(s *etcd.Status) bool {
		return s.Serving && strings.Contains(s.Message, "the log of the database is damaged")
	})
	if got := w.get(w.client(), "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
	d.Kill()

	w.spoil(w.dir.db(), 0, 8192)
	w.died()
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	code, err := d.Wait()
	if code != abi.ExitMisconfigured || err != nil || !strings.Contains(d.Log(), "is damaged and there is no copy of it yet") {
		t.Errorf("exit code %d, %v\n%s", code, err, d.Log())
	}
}

// TestARealDiskThatIsFull fills an ext4 on which etcdd's data is, to the last byte.
func TestARealDiskThatIsFull(t *testing.T) {
	w := newWorld(t)
	d := w.prepare()
	disk := filepath.Join(d.Root, dataDir)
	mountSmall(t, disk, 400*mib, 110)
	t.Cleanup(d.Close) // before it is unmounted
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	w.until(serving)
	c := w.client()
	w.put(c, "a", "1")
	w.put(c, "b", "0x")
	w.dir = dir{disk}
	w.until(func(*etcd.Status) bool { return w.dir.hasReserve() })

	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	acknowledged := 0
	for n := 1; ; n++ { // until it notices, or stumbles
		value := fmt.Sprint(n) + strings.Repeat("x", 100_000)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := c.Put(ctx, "b", value)
		cancel()
		if err != nil {
			t.Logf("after %d writes: %v", n, err)
			break
		}
		acknowledged = n
	}
	if !w.restartIfEnded(d) {
		t.Log("it did not end")
	}
	w.until(func(s *etcd.Status) bool { return s.Serving && strings.Contains(s.Message, "the disk is full") })
	kept, _, _ := strings.Cut(w.get(c, "b"), "x")
	// A write that was not answered may have been kept.
	if a := w.get(c, "a"); a != "1" || kept != fmt.Sprint(acknowledged) && kept != fmt.Sprint(acknowledged+1) {
		t.Errorf("a is %q; b is from write %q, and write %d was acknowledged", a, kept, acknowledged)
	}
	d.Kill() // and starts on a full disk, too
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	w.until(func(s *etcd.Status) bool { return s.Serving && strings.Contains(s.Message, "the disk is full") })

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.until(func(s *etcd.Status) bool { return s.Serving && s.Message == "" && len(s.Alarms) == 0 })
	w.put(c, "c", "1")
	w.until(func(*etcd.Status) bool { return w.dir.hasReserve() })
}

// restartIfEnded starts the program again if it has ended, as PID 1 would.
func (w *world) restartIfEnded(d *alone.Daemon) bool {
	w.Helper()
	select {
	case <-d.Ended():
		w.Logf("it ended:\n%s", d.Log())
		if err := d.Start(); err != nil {
			w.Fatal(err)
		}
		return true
	case <-time.After(2 * lookInterval):
		return false
	}
}

// fill takes all blocks that are left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, mib)
	for len(block) > 0 {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// mountSmall mounts an ext4 of that size on path for a user.
func mountSmall(t *testing.T, path string, bytes int64, user int) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, bytes); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, path}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, 0); err != nil {
			t.Errorf("unmount %s: %v", path, err)
		}
	})
	if err := os.Chown(path, user, user); err != nil {
		t.Fatal(err)
	}
}

// alone starts the program itself, sealed.
func (w *world) alone() *alone.Daemon {
	w.Helper()
	d := w.prepare()
	if err := d.Start(); err != nil {
		w.Fatal(err)
	}
	w.until(serving)
	return d
}

// prepare makes a root for the program, in the world's place.
func (w *world) prepare() *alone.Daemon {
	w.Helper()
	if os.Getuid() != 0 {
		w.Skip("only root can give a program a root of its own")
	}
	program, err := alone.Build(w.Context(), "../../daemons/etcdd", w.TempDir())
	if err != nil {
		w.Fatal(err)
	}
	m, err := alone.Load(w.Context(), "../..", "etcdd")
	if err != nil {
		w.Fatal(err)
	}
	d, err := alone.Prepare(w.TempDir(), program, m, etcd.Service, []string{"GetStatus", "Snapshot"})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(d.Close)
	w.certs, w.etcd, w.address, w.ended = d.Share("trustd"), etcd.NewClient(d.Peer), d.Address(clientSocket), make(chan struct{})
	w.issue(24 * time.Hour)
	return d
}
