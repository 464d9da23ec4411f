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

// faulty panics in one method.
type faulty struct{ pb.Server }

func (faulty) GetVersion(context.Context, *pb.GetVersionRequest) (*pb.Version, error) {
	panic("on purpose")
}

func TestGuard(t *testing.T) {
	var f faulty
	pipe, err := newLogPipe()
	if err != nil {
		t.Fatal(err)
	}
	peer := ipctest.Pair(t, map[string][]string{pb.Service: {"GetVersion"}}, func(r ipc.Registrar) {
		pb.Register(&guarded{Registrar: r, log: journal{pipe: pipe.write}}, f)
	})
	client := pb.NewClient(peer)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := client.GetVersion(ctx, &pb.GetVersionRequest{}); status.Code(err) != codes.Internal {
		t.Errorf("a handler that panics: %v", err)
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
}
