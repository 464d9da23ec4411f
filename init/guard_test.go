package main

import (
	"context"
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
