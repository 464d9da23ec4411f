package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/log"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var methods = map[string][]string{log.Service: {"ReadLog", "ReadKernel"}}

// machine is what logd reads from.
type machine struct {
	t                    *testing.T
	daemonLog, kernelLog *os.File // what logd reads
	daemon, kernel       *os.File // what networkd and the kernel write
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t}
	m.daemonLog, m.daemon = pipe(t)
	m.kernelLog, m.kernel = pipe(t)
	return m
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// inherit returns f as another process would have it.
func inherit(t *testing.T, f *os.File) *os.File {
	t.Helper()
	conn, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var own *os.File
	conn.Control(func(fd uintptr) {
		n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		own = os.NewFile(uintptr(n), f.Name())
	})
	t.Cleanup(func() { own.Close() })
	return own
}

// logd is one process of it.
type logd struct {
	*server
	client log.Client
	stop   func() // SIGTERM, and until it has let go
}

func (m *machine) start(dir string) *logd {
	m.t.Helper()
	l := &logd{server: newServer([]string{"networkd"})}
	ctx, cancel := context.WithCancel(m.t.Context())
	ended := make(chan error, 1)
	pipes := []kit.LogPipe{{Name: "networkd", File: inherit(m.t, m.daemonLog)}}
	kmsg := inherit(m.t, m.kernelLog)
	go func() { ended <- l.keep(ctx, slog.New(slog.DiscardHandler), store{dir}, pipes, kmsg) }()
	l.stop = func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			m.t.Error(err)
		}
		ended <- nil
	}
	m.t.Cleanup(l.stop)
	l.client = log.NewClient(ipctest.Pair(m.t, methods, func(r ipc.Registrar) { log.Register(r, l.server) }))
	return l
}

func (m *machine) say(f *os.File, text string) {
	m.t.Helper()
	if _, err := f.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
}

// expect receives one line for each of want, "cursor text".
func expect(t *testing.T, from ipc.Receiver[*log.Line], want ...string) (last *log.Line) {
	t.Helper()
	for _, w := range want {
		l, err := from.Recv()
		if err != nil {
			t.Fatalf("%v, want %q", err, w)
		}
		if got := fmt.Sprint(l.Cursor, " ", l.Text); got != w {
			t.Fatalf("got %q, want %q", got, w)
		}
		last = l
	}
	return last
}

func (l *logd) read(t *testing.T, r *log.ReadLogRequest) ipc.Receiver[*log.Line] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	s, err := l.client.ReadLog(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFollow(t *testing.T) {
	m := newMachine(t)
	l := m.start(t.TempDir())
	m.say(m.daemon, "INFO one\nINFO tw")
	follow := l.read(t, &log.ReadLogRequest{Daemon: "networkd", Follow: true})
	first := expect(t, follow, "1 INFO one")
	if age := time.Since(time.Unix(0, first.TimeUnixNs)); age < 0 || age > time.Minute {
		t.Errorf("the line is %v old", age)
	}
	m.say(m.daemon, "o\nINFO three\n")
	expect(t, follow, "2 INFO two", "3 INFO three")

	whole := l.read(t, &log.ReadLogRequest{Daemon: "networkd", After: 1})
	expect(t, whole, "2 INFO two", "3 INFO three")
	if _, err := whole.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("without follow: %v, want the end", err)
	}
	expect(t, l.read(t, &log.ReadLogRequest{Daemon: "networkd", Tail: 1}), "3 INFO three")
	expect(t, l.read(t, &log.ReadLogRequest{Daemon: "networkd", After: 99}), "1 INFO one")
}

func TestUnknownDaemon(t *testing.T) {
	l := newMachine(t).start(t.TempDir())
	for _, name := range []string{"", "kernel", "../networkd"} {
		_, err := l.read(t, &log.ReadLogRequest{Daemon: name}).Recv()
		if status.Code(err) != codes.NotFound {
			t.Errorf("%q: %v, want NotFound", name, err)
		}
	}
}

func TestKernel(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	l := m.start(dir)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	follow, err := l.client.ReadKernel(ctx, &log.ReadKernelRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	m.say(m.kernel, "5,0,0,-;Linux version 6.12\n")
	expect(t, follow, "1 NOTICE Linux version 6.12")
	m.say(m.kernel, "6,9,1500000,-;eth0: up\n")
	if got := expect(t, follow, "10 INFO eth0: up"); got.Dropped != 8 {
		t.Errorf("dropped %d, want the 8 that the kernel overwrote", got.Dropped)
	}

	// A new logd reads the kernel's log from its beginning, and keeps each message once.
	l.stop()
	l = m.start(dir)
	m.say(m.kernel, "5,0,0,-;Linux version 6.12\n")
	follow, err = l.client.ReadKernel(ctx, &log.ReadKernelRequest{Follow: true, After: 1})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, follow, "10 INFO eth0: up")
	m.say(m.kernel, "6,10,1600000,-;eth0: down\n")
	expect(t, follow, "11 INFO eth0: down")
}

// While one logd replaces another no line is lost or doubled, and callers of
// the new one wait until the old one lets go.
func TestReplacement(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	before := m.start(dir)
	m.say(m.daemon, "one\n")
	expect(t, before.read(t, &log.ReadLogRequest{Daemon: "networkd", Follow: true}), "1 one")

	after := m.start(dir)
	follow := after.read(t, &log.ReadLogRequest{Daemon: "networkd", Follow: true})
	select {
	case <-after.opened:
		t.Fatal("two processes hold the files")
	default:
	}
	before.stop()
	m.say(m.daemon, "two\n")
	expect(t, follow, "1 one", "2 two")
}

// What a slow reader missed is counted.
func TestDropped(t *testing.T) {
	m := newMachine(t)
	l := m.start(t.TempDir())
	follow := l.read(t, &log.ReadLogRequest{Daemon: "networkd", Follow: true})
	m.say(m.daemon, "first\n")
	expect(t, follow, "1 first")

	text := strings.Repeat("x", 4000)
	const lines = 100 // of which both segments together hold about 64
	for range lines {
		m.say(m.daemon, text+"\n")
	}
	m.say(m.daemon, "end\n")
	l.waitFor(t, lines+2)
	got := l.read(t, &log.ReadLogRequest{Daemon: "networkd", After: 1})
	first, err := got.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if first.Dropped == 0 || first.Dropped != first.Cursor-2 {
		t.Errorf("the first line kept is %d and says that %d were dropped", first.Cursor, first.Dropped)
	}
	second, err := got.Recv()
	if err != nil || second.Dropped != 0 || second.Cursor != first.Cursor+1 {
		t.Errorf("then %v, %v", second, err)
	}
}

// waitFor waits until networkd's ring has a line with the cursor.
func (l *logd) waitFor(t *testing.T, cursor uint64) {
	t.Helper()
	follow := l.read(t, &log.ReadLogRequest{Daemon: "networkd", Follow: true})
	for {
		got, err := follow.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.Cursor == cursor {
			return
		}
	}
}
