package main

import (
	"context"
	"time"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/network"
	timeapi "github.com/dactyl-os/dactyl/ipc/time"
)

func main() { kit.Main(setup) }

func setup(_ context.Context, d *kit.Daemon) error {
	w := &world{
		config:  config.NewClient(d.Peer("config")),
		network: network.NewClient(d.Peer("network")),
		port:    "123",
		dnsPort: "53",
	}
	s := newServer(w, kernelClock{}, d.Log)
	s.built = time.Unix(d.Spec.Epoch, 0)
	timeapi.Register(d.IPC, s)
	d.Go("keep the clock", s.keep)
	return nil
}
