// Package ipctest connects a client to a server over a real unix socket, for
// tests of handlers.
package ipctest

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc"
)

// Pair serves what register registers to a caller who may use every method
// in methods (full service name → names) and returns a connection to it. Both
// end with the test.
func Pair(t testing.TB, methods map[string][]string, register func(ipc.Registrar)) *ipc.Peer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := ipc.NewServer(nil)
	register(s)
	if err := s.Listen(l, ipc.Caller{Name: "test", Methods: methods}, func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	p := ipc.NewPeer("test", path)
	t.Cleanup(func() {
		p.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Drain(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}
