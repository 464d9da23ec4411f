package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/etcd"
)

const (
	clientSocket = "tcp:127.0.0.1:2379"
	dataDir      = "/var/lib/dactyl/etcdd"
)

func main() { kit.Main(setup) }

// setup takes the socket. The database is opened behind the seal: reading it may
// take a while, and what is read may be damaged.
func setup(_ context.Context, d *kit.Daemon) error {
	listener, err := d.Listener(clientSocket)
	if err != nil {
		return err
	}
	unthrottle()
	s := newServer(dir{dataDir}, newCertificate(filepath.Join(abi.ShareDir, "trustd", d.Spec.Name)), time.Now, d.Log)
	etcd.Register(d.IPC, s)
	d.Go("keep the database", func(ctx context.Context) error { return s.run(ctx, listener) })
	return nil
}
