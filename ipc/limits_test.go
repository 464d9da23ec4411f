package ipc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// serveLimited serves f with limits.
func (p *post) serveLimited(register func(ipc.Registrar), methods map[string][]string, l ipc.Limits) {
	p.t.Helper()
	listener, err := net.FileListener(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	server := ipc.NewServer(nil)
	server.Limit(l)
	register(server)
	if err := server.Listen(listener, ipc.Caller{Name: "tester", Methods: methods}, nil); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		server.Drain(ctx)
	})
}

var smallLimits = ipc.Limits{MessageBytes: 64 << 10, Calls: 8, Connections: 4}

// A request that is larger than the server takes is refused with the number, and others on the
// same connection are answered.
func TestRequestAboveTheServersLimit(t *testing.T) {
	p := newPost(t)
	p.serveLimited(func(r ipc.Registrar) { machine.Register(r, &fake{delay: 200 * time.Millisecond}) }, all, smallLimits)
	peer := ipc.NewPeer("machine", p.path)
	defer peer.Close()
	c := machine.NewClient(peer)
	other := make(chan error, 1)
	go func() {
		_, err := c.GetVersion(t.Context(), &machine.GetVersionRequest{})
		other <- err
	}()
	for bytes, code := range map[int]codes.Code{60 << 10: codes.OK, 64 << 10: codes.ResourceExhausted, 3 << 20: codes.ResourceExhausted} {
		_, err := c.RestartDaemon(t.Context(), &machine.RestartDaemonRequest{Name: strings.Repeat("x", bytes)})
		if status.Code(err) != code || err != nil && !strings.Contains(err.Error(), "at most 65536 bytes") {
			t.Errorf("a request of %d bytes: %v, want %v", bytes, err, code)
		}
	}
	if err := <-other; err != nil {
		t.Errorf("another call on the same connection: %v", err)
	}
}

// A message of a stream that is too large ends the stream's own connection.
func TestStreamAboveTheServersLimit(t *testing.T) {
	p := newPost(t)
	take := func(from ipc.Receiver[*dev.ReplaceDaemonRequest]) error {
		for {
			if _, err := from.Recv(); err != nil {
				return err
			}
		}
	}
	p.serveLimited(func(r ipc.Registrar) { dev.Register(r, taker{take: take}) }, map[string][]string{dev.Service: {"ReplaceDaemon"}}, smallLimits)
	up, err := dev.NewClient(ipc.NewPeer("dev", p.path)).ReplaceDaemon(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Send(&dev.ReplaceDaemonRequest{Chunk: make([]byte, 60<<10)}); err != nil {
		t.Fatal(err)
	}
	up.Send(&dev.ReplaceDaemonRequest{Chunk: make([]byte, 1<<20)})
	if _, err := up.CloseAndReceive(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
}

// A header alone makes the server allocate no more than its limit: what it announces is
// dropped as it comes.
func TestAnnouncedMessages(t *testing.T) {
	p := newPost(t)
	p.serveLimited(func(r ipc.Registrar) { machine.Register(r, &fake{}) }, all, smallLimits)
	header := binary.BigEndian.AppendUint32(nil, 4<<20)
	header = append(binary.BigEndian.AppendUint32(header, 1), 1, 0) // stream 1, a request
	c, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	for _, piece := range [][]byte{header[:3], header[3:], make([]byte, 3<<20), make([]byte, 1<<20)} {
		if _, err := c.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	answer := make([]byte, 10)
	if _, err := io.ReadFull(c, answer); err != nil || answer[8] != 2 || binary.BigEndian.Uint32(answer[4:]) != 1 {
		t.Errorf("%x, %v: want a response on stream 1", answer, err)
	}
}

// Connections beyond the limit are closed, and the place of one that ends is free again.
func TestConnectionLimit(t *testing.T) {
	p := newPost(t)
	p.serveLimited(func(r ipc.Registrar) { machine.Register(r, &fake{}) }, all, smallLimits)
	open := func() *ipc.Peer {
		peer := ipc.NewPeer("machine", p.path)
		t.Cleanup(peer.Close)
		return peer
	}
	call := func(peer *ipc.Peer) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := machine.NewClient(peer).GetVersion(ctx, &machine.GetVersionRequest{})
		return err
	}
	var peers []*ipc.Peer
	for range smallLimits.Connections {
		peers = append(peers, open())
		if err := call(peers[len(peers)-1]); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one connection too many: %v", err)
	}
	peers[0].Close()
	deadline := time.Now().Add(10 * time.Second)
	for err = call(open()); err != nil && time.Now().Before(deadline); err = call(open()) {
		time.Sleep(time.Millisecond) // until the server has seen the end of the first
	}
	if err != nil {
		t.Errorf("no place was freed: %v", err)
	}
}

// waiting has calls that wait for something outside.
type waiting struct {
	fake
	in      atomic.Int64
	release chan struct{}
}

func (w *waiting) RestartDaemon(ctx context.Context, _ *machine.RestartDaemonRequest) (*machine.RestartDaemonResponse, error) {
	w.in.Add(1)
	ipc.Wait(ctx, func() { <-w.release })
	return &machine.RestartDaemonResponse{}, nil
}

// Calls that wait do not hold up others, and are answered in the end.
func TestWaitingCallsHoldUpNoOthers(t *testing.T) {
	const calls = 20 // more than are worked on at a time
	p := newPost(t)
	w := &waiting{release: make(chan struct{})}
	p.serveLimited(func(r ipc.Registrar) { machine.Register(r, w) }, all, ipc.Limits{MessageBytes: ipc.MaxMessageBytes, Calls: 64})
	peer := ipc.NewPeer("machine", p.path)
	defer peer.Close()
	c := machine.NewClient(peer)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := c.RestartDaemon(ctx, &machine.RestartDaemonRequest{}); err != nil {
				t.Errorf("a call that waited: %v", err)
			}
		})
	}
	for w.in.Load() < calls && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.GetVersion(ctx, &machine.GetVersionRequest{}); err != nil {
		t.Errorf("a call beside %d that wait: %v", w.in.Load(), err)
	}
	close(w.release)
	wg.Wait()
}
