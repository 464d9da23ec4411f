package main

import (
	"context"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/config"
)

func main() { kit.Main(setup) }

func setup(_ context.Context, d *kit.Daemon) error {
	s := newServer(files{boot: "/boot/cluster.yaml", kept: "/state/configd/cluster.yaml"}, d.Log)
	config.Register(d.IPC, s)
	d.Go("read the configuration", s.read)
	return nil
}
