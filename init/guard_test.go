package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	pb "github.com/dactyl-os/dactyl/ipc/machine"
)

// faulty panics in one method and keeps callers in another.
type faulty struct {
	pb.Server
	held chan struct{}
}

func (faulty) GetVersion(context.Context, *pb.GetVersionRequest) (*pb.Version, error) {
	panic("on purpose")
}

func (f faulty) GetGraph(ctx context.Context, _ *pb.GetGraphRequest) (*pb.Graph, error) {
	select {
	case <-f.held:
	case <-ctx.Done():
	}
	return &pb.Graph{}, nil
}

func TestGuard(t *testing.T) {
	f := faulty{held: make(chan struct{})}
	pipe, err := newLogPipe()
	if err != nil {
		t.Fatal(err)
	}
	slots := make(chan struct{}, maxCalls)
	peer := ipctest.Pair(t, map[string][]string{pb.Service: {"GetVersion", "GetGraph"}}, func(r ipc.Registrar) {
		pb.Register(&guarded{Registrar: r, log: journal{pipe: pipe.write}, slots: slots, crowd: &crowdedListener{}}, f)
	})
	client := pb.NewClient(peer)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := client.GetVersion(ctx, &pb.GetVersionRequest{}); status.Code(err) != codes.Internal {
		t.Errorf("a handler that panics: %v", err)
	}
	results := make(chan error)
	for range 3 * maxCalls {
		go func() {
			_, err := client.GetGraph(ctx, &pb.GetGraphRequest{})
			results <- err
		}()
	}
	for len(slots) < maxCalls && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	close(f.held)
	for range 3 * maxCalls {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestCrowdedListener(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	crowd := &crowdedListener{Listener: l}
	accepted := make(chan net.Conn, 2*maxConnections)
	go func() {
		for {
			c, err := crowd.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	for range maxConnections {
		dial()
	}
	if _, err := dial().Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one too many: %v", err)
	}
	(<-accepted).Close()
	dial()
	for range maxConnections { // the first that were admitted, and the one that took the free place
		select {
		case <-accepted:
		case <-time.After(10 * time.Second):
			t.Fatal("no place was freed")
		}
	}
	crowd.hangUp()
	crowd.mu.Lock()
	defer crowd.mu.Unlock()
	if len(crowd.open) != 0 {
		t.Error("still open after hanging up")
	}
}
