package main

import (
	"context"
	"testing"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/kube"
)

// A machine without a cluster says so, in the words that the API promises.
func TestUnconfigured(t *testing.T) {
	methods := map[string][]string{kube.Service: {"GetStatus"}}
	conn := ipctest.Pair(t, methods, func(r ipc.Registrar) { kube.Register(r, newServer(unconfigured)) })
	got, err := kube.NewClient(conn).GetStatus(context.Background(), &kube.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Configured || got.Message != "no cluster configured" {
		t.Errorf("status %v", got)
	}
}
