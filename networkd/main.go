package main

import (
	"context"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
)

func main() { kit.Main(setup) }

// setup opens every socket that networkd will ever have; after it no new one can be
// made, except to call its peers.
func setup(_ context.Context, d *kit.Daemon) error {
	k, err := openKernel()
	if err != nil {
		return err
	}
	peers := peers{config.NewClient(d.Peer("config")), machine.NewClient(d.Peer("machine"))}
	s := newServer(k, peers, d.Log)
	network.Register(d.IPC, s)
	d.Go("decide", s.decide)
	d.Go("watch the kernel", s.watch)
	d.Go("receive DHCP", s.receive)
	d.Go("follow the configuration", s.follow)
	d.Go("name the machine", s.name)
	return nil
}
