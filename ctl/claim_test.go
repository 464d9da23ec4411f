package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// run runs the command in this process with its own store; it returns the exit code
// and what was printed.
func runIn(ctx context.Context, dir string, args ...string) (int, string) {
	var said bytes.Buffer
	a := &app{stdin: os.Stdin, stdout: &said, stderr: &said}
	code := a.run(ctx, append([]string{"--store", dir}, args...))
	return code, said.String()
}

// A claim that the machine has accepted must not be lost, whatever prevents the answer
// from arriving: the key is kept, and the same command completes the claim.
func TestClaimWithoutAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(interrupt func(), over <-chan struct{}) error // instead of the certificate; over ends with the command
		exit   int
	}{
		{"interrupt", func(interrupt func(), over <-chan struct{}) error { interrupt(); <-over; return context.Canceled }, exitInterrupted},
		{"internal error after the claim is stored", func(func(), <-chan struct{}) error { return status.Error(codes.Internal, "sync /state/trustd") }, exitOther},
		{"unknown error", func(func(), <-chan struct{}) error { return errors.New("no status") }, exitOther},
		{"lost answer", func(func(), <-chan struct{}) error { return status.Error(codes.Unavailable, "gone") }, exitConnection},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			f := newFake(t)
			over := make(chan struct{})
			f.afterClaim = func() error { return c.answer(interrupt, over) }
			address, dir := f.serve(f.chain()), t.TempDir()
			claim := []string{"claim", address, "--code", f.code().String(), "--name", "edge"}
			code, said := runIn(ctx, dir, claim...)
			close(over)
			if code != c.exit {
				t.Fatalf("exit code %d, want %d: %s", code, c.exit, said)
			}
			if f.claimedBy() == nil {
				t.Fatal("the machine is not claimed, so this test shows nothing")
			}
			if code, said := runIn(t.Context(), dir, claim...); code != exitDone {
				t.Errorf("the same command again: exit code %d: %s", code, said)
			}
		})
	}
}

// Before the machine sees the key, the key is on the disk: the file, its name in the
// directory, and the directory itself. Where this fails, nothing is sent.
func TestClaimKeyIsDurableFirst(t *testing.T) {
	defer func(before func(string) error) { syncDirectory = before }(syncDirectory)
	f := newFake(t)
	address, above := f.serve(f.chain()), t.TempDir()
	dir := filepath.Join(above, "config", "dactyl")
	claim := []string{"claim", address, "--code", f.code().String(), "--name", "edge"}

	syncDirectory = func(string) error { return errors.New("input/output error") }
	if code, said := runIn(t.Context(), dir, claim...); code != exitOther {
		t.Errorf("exit code %d, want %d: %s", code, exitOther, said)
	}
	if f.claimedBy() != nil {
		t.Fatal("the machine got a key that is not durable")
	}

	if err := os.RemoveAll(filepath.Join(above, "config")); err != nil {
		t.Fatal(err)
	}
	var synced []string // before the machine was claimed
	syncDirectory = func(d string) error {
		if f.claimedBy() != nil {
			return nil
		}
		synced = append(synced, d)
		if d != dir {
			return nil
		}
		all, err := store(dir).load()
		if err != nil || all.find("edge") == nil || all.find("edge").Key == "" {
			t.Errorf("synced without the key in it: %v, %v", all, err)
		}
		return nil
	}
	if code, said := runIn(t.Context(), dir, claim...); code != exitDone {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if want := []string{above, filepath.Dir(dir), dir}; !slices.Equal(synced, want) {
		t.Errorf("synced %q before the claim, want %q", synced, want)
	}
}

// A machine that has no address but its link-local one is claimed by it: the zone says by
// which of this computer's links it is reached, and is in nobody's certificate. (::1 stands
// for a link-local address here, since a test has no link.)
func TestClaimWithZone(t *testing.T) {
	f := newFake(t)
	f.names = []string{"::1"}
	_, port, err := net.SplitHostPort(f.serveAt("[::1]:0", f.chain()))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if code, said := runIn(t.Context(), dir, "claim", "[::1%lo]:"+port, "--code", f.code().String(), "--name", "edge"); code != exitDone {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if code, said := runIn(t.Context(), dir, "kube", "status"); code != exitDone {
		t.Errorf("a call with the certificate: exit code %d: %s", code, said)
	}
}

func TestWithoutZone(t *testing.T) {
	for host, want := range map[string]string{
		"fe80::1%eth0": "fe80::1", "fe80::1": "fe80::1", "192.0.2.1": "192.0.2.1", "node-1.example.net": "node-1.example.net", "node%1": "node%1",
	} {
		if got := withoutZone(host); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

// A context that another command has completed is not removed with a refused claim.
func TestRemoveUnclaimed(t *testing.T) {
	tried := machine{Name: "edge", Key: "mine"}
	for _, c := range []struct {
		now  machine
		left int
	}{
		{tried, 0},
		{machine{Name: "edge", Key: "mine", Certificate: "signed"}, 1},
		{machine{Name: "edge", Key: "another's"}, 1},
	} {
		all := contexts{Contexts: []machine{c.now}}
		if all.removeUnclaimed(tried); len(all.Contexts) != c.left {
			t.Errorf("%v: %d contexts left, want %d", c.now, len(all.Contexts), c.left)
		}
	}
}
