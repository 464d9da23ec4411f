package ipc_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fake counts what it served; hostnames it was given are its side effects.
type fake struct {
	machine.Server
	set   atomic.Int64
	delay time.Duration
	huge  bool // ListDaemons answers with more than fits
}

func (f *fake) ListDaemons(context.Context, *machine.ListDaemonsRequest) (*machine.ListDaemonsResponse, error) {
	name := "d"
	if f.huge {
		name = strings.Repeat("d", ipc.MaxMessageBytes)
	}
	return &machine.ListDaemonsResponse{Daemons: []*machine.Daemon{{Name: name}}}, nil
}

func (f *fake) GetVersion(ctx context.Context, _ *machine.GetVersionRequest) (*machine.Version, error) {
	if f.delay > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(f.delay):
		}
	}
	return &machine.Version{Version: "1"}, nil
}

// RestartDaemon stands for a call that must not be carried out twice.
func (f *fake) RestartDaemon(context.Context, *machine.RestartDaemonRequest) (*machine.RestartDaemonResponse, error) {
	f.set.Add(1)
	return &machine.RestartDaemonResponse{Pid: 1}, nil
}

var all = map[string][]string{machine.Service: {"GetVersion", "RestartDaemon", "ListDaemons"}}

// post is a listening socket that outlives its servers, as PID 1 keeps it.
type post struct {
	t    *testing.T
	file *os.File
	path string
}

func newPost(t *testing.T) *post {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Cleanup(func() { f.Close() })
	return &post{t, f, path}
}

func (p *post) serve(s machine.Server, methods map[string][]string) *ipc.Server {
	p.t.Helper()
	l, err := net.FileListener(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	server := ipc.NewServer(nil)
	machine.Register(server, s)
	if err := server.Listen(l, ipc.Caller{Name: "tester", Methods: methods}, nil); err != nil {
		p.t.Fatal(err)
	}
	return server
}

func TestOnlyNamedMethodsMayBeCalled(t *testing.T) {
	p := newPost(t)
	var refused []string
	server := ipc.NewServer(func(caller, method string) { refused = append(refused, caller+" "+method) })
	machine.Register(server, &fake{})
	l, err := net.FileListener(p.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Listen(l, ipc.Caller{Name: "networkd", Methods: map[string][]string{machine.Service: {"GetVersion"}}}, nil); err != nil {
		t.Fatal(err)
	}
	c := machine.NewClient(ipc.NewPeer("machine", p.path))
	if _, err := c.GetVersion(t.Context(), &machine.GetVersionRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err = c.RestartDaemon(t.Context(), &machine.RestartDaemonRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Fatalf("a call that no manifest names: %v, want PermissionDenied", err)
	}
	if want := "[networkd /dactyl.machine.v1.Machine/RestartDaemon]"; fmt.Sprint(refused) != want {
		t.Fatalf("refusals told: %v, want %s", refused, want)
	}
}

func TestCallWaitsUntilSomebodyServes(t *testing.T) {
	p := newPost(t)
	c := machine.NewClient(ipc.NewPeer("machine", p.path))
	answered := make(chan error, 1)
	go func() {
		_, err := c.GetVersion(t.Context(), &machine.GetVersionRequest{})
		answered <- err
	}()
	server := p.serve(&fake{}, all)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	server.Drain(t.Context())
}

// A hundred servers follow each other while sixteen callers call a method that
// is not idempotent: none may fail, and none may be carried out twice.
func TestReplacedServersLoseNoCall(t *testing.T) {
	p := newPost(t)
	f := &fake{}
	server := p.serve(f, all)
	peer := ipc.NewPeer("machine", p.path)
	c := machine.NewClient(peer)
	ctx, stop := context.WithCancel(t.Context())
	var calls atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.RestartDaemon(t.Context(), &machine.RestartDaemonRequest{}); err != nil {
					t.Errorf("call lost: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for range 100 {
		goal := calls.Load() + 20
		for calls.Load() < goal && !t.Failed() {
			time.Sleep(100 * time.Microsecond)
		}
		next := p.serve(f, all)
		drain, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := server.Drain(drain); err != nil {
			t.Fatal(err)
		}
		cancel()
		server = next
	}
	stop()
	wg.Wait()
	if calls.Load() != f.set.Load() {
		t.Fatalf("%d calls answered, %d carried out", calls.Load(), f.set.Load())
	}
}

// What was asked before a server began to finish is answered by it, however
// long that takes.
func TestDrainAnswersWhatWasAsked(t *testing.T) {
	p := newPost(t)
	server := p.serve(&fake{delay: 200 * time.Millisecond}, all)
	c := machine.NewClient(ipc.NewPeer("machine", p.path))
	if _, err := c.RestartDaemon(t.Context(), &machine.RestartDaemonRequest{}); err != nil { // connected
		t.Fatal(err)
	}
	answered := make(chan error, 8)
	for range 8 {
		go func() {
			_, err := c.GetVersion(t.Context(), &machine.GetVersionRequest{})
			answered <- err
		}()
	}
	next := make(chan *ipc.Server, 1)
	if err := server.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	next <- p.serve(&fake{}, all)
	for range 8 {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	(<-next).Drain(t.Context())
}

func TestGaveUpDaemonIsToldAtOnce(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]codes.Code{"nobody listens": codes.Unavailable, "no socket": codes.PermissionDenied} {
		path := filepath.Join(dir, "none")
		if name == "nobody listens" {
			path = filepath.Join(dir, "dead")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}
		_, err := machine.NewClient(ipc.NewPeer("machine", path)).GetVersion(t.Context(), &machine.GetVersionRequest{})
		if status.Code(err) != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func TestOversizedMessageIsRefusedByName(t *testing.T) {
	p := newPost(t)
	server := p.serve(&fake{}, all)
	defer server.Drain(t.Context())
	c := machine.NewClient(ipc.NewPeer("machine", p.path))
	_, err := c.RestartDaemon(t.Context(), &machine.RestartDaemonRequest{Name: string(make([]byte, ipc.MaxMessageBytes+1))})
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("%v, want ResourceExhausted", err)
	}
	if _, err := c.GetVersion(t.Context(), &machine.GetVersionRequest{}); err != nil {
		t.Fatalf("the next call on the same connection: %v", err)
	}
}

// crowded counts who is in a handler at a time.
type crowded struct {
	machine.Server
	in, most atomic.Int64
}

func (c *crowded) GetVersion(context.Context, *machine.GetVersionRequest) (*machine.Version, error) {
	now := c.in.Add(1)
	defer c.in.Add(-1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
	time.Sleep(time.Millisecond) // others would come in meanwhile
	return &machine.Version{}, nil
}

// However many call, a server's threads are few; all are answered.
func TestFewHandlersAtATime(t *testing.T) {
	p := newPost(t)
	c := &crowded{}
	server := p.serve(c, all)
	defer server.Drain(t.Context())
	client := machine.NewClient(ipc.NewPeer("machine", p.path))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := client.GetVersion(t.Context(), &machine.GetVersionRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most := c.most.Load(); most > 8 || most < 2 {
		t.Errorf("%d calls were worked on at a time; want 2 to 8", most)
	}
}

// An answer that does not fit fails its own call and no other.
func TestOversizedAnswerIsRefusedByName(t *testing.T) {
	p := newPost(t)
	server := p.serve(&fake{huge: true, delay: 50 * time.Millisecond}, all)
	defer server.Drain(t.Context())
	c := machine.NewClient(ipc.NewPeer("machine", p.path))
	other := make(chan error, 1)
	go func() {
		_, err := c.GetVersion(t.Context(), &machine.GetVersionRequest{})
		other <- err
	}()
	_, err := c.ListDaemons(t.Context(), &machine.ListDaemonsRequest{})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v, want ResourceExhausted", err)
	}
	if err := <-other; err != nil {
		t.Errorf("another call on the same connection: %v", err)
	}
}

// taker takes an upload as slowly as a disk that has to be flushed.
type taker struct {
	dev.Server
	take func(ipc.Receiver[*dev.ReplaceDaemonRequest]) error
}

func (s taker) ReplaceDaemon(_ context.Context, from ipc.Receiver[*dev.ReplaceDaemonRequest]) (*dev.ReplaceDaemonResponse, error) {
	return &dev.ReplaceDaemonResponse{}, s.take(from)
}

func upload(t *testing.T, take func(ipc.Receiver[*dev.ReplaceDaemonRequest]) error) *ipc.Upload[*dev.ReplaceDaemonRequest, *dev.ReplaceDaemonResponse] {
	t.Helper()
	may := map[string][]string{dev.Service: {"ReplaceDaemon"}}
	client := dev.NewClient(ipctest.Pair(t, may, func(r ipc.Registrar) { dev.Register(r, taker{take: take}) }))
	up, err := client.ReplaceDaemon(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return up
}

// A handler that is busy for longer than a second gets every message, and its
// memory does not fill meanwhile: the sender waits.
func TestASenderWaitsForASlowHandler(t *testing.T) {
	const messages = 200
	var sent atomic.Int64
	up := upload(t, func(from ipc.Receiver[*dev.ReplaceDaemonRequest]) error {
		time.Sleep(1500 * time.Millisecond) // what ttrpc allows, and half as much
		if n := sent.Load(); n > 20 {
			return fmt.Errorf("%d messages were sent before the first was taken", n)
		}
		for n := 0; ; n++ {
			_, err := from.Recv()
			switch {
			case err == io.EOF && n == messages:
				return nil
			case err != nil:
				return fmt.Errorf("after %d messages: %w", n, err)
			}
		}
	})
	for range messages {
		if err := up.Send(&dev.ReplaceDaemonRequest{Chunk: make([]byte, 256<<10)}); err != nil {
			t.Fatal(err)
		}
		sent.Add(1)
	}
	if _, err := up.CloseAndReceive(); err != nil {
		t.Error(err)
	}
}

// A handler that answers before it has read all: the sender stops, and has the answer.
func TestAnEarlyAnswerStopsTheSender(t *testing.T) {
	up := upload(t, func(from ipc.Receiver[*dev.ReplaceDaemonRequest]) error {
		from.Recv()
		return status.Error(codes.InvalidArgument, "not this one")
	})
	var err error
	n := 0
	for ; err == nil && n < 10000; n++ {
		err = up.Send(&dev.ReplaceDaemonRequest{Chunk: make([]byte, 256<<10)})
	}
	if err == nil {
		t.Error("the sender never learns of the answer")
	}
	if _, err := up.CloseAndReceive(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("after %d messages: %v", n, err)
	}
}

// Garbage on a daemon's socket ends that connection and nothing else.
func TestGarbageHurtsOnlyItself(t *testing.T) {
	p := newPost(t)
	server := p.serve(&fake{}, all)
	defer server.Drain(t.Context())
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x01\x01\x00junk", "\xff\xff\xff\xff\x00\x00\x00\x01\x01\x00"} {
		c, err := net.Dial("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(garbage))
		defer c.Close()
	}
	if _, err := machine.NewClient(ipc.NewPeer("machine", p.path)).GetVersion(t.Context(), &machine.GetVersionRequest{}); err != nil {
		t.Fatal(err)
	}
}
