// Command podd speaks to containerd for the machine. See doc.go for what it never does.
package main

import (
	"context"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/storage"
)

const (
	socket       = "/run/containerd/containerd.sock"
	systemImages = "/lib/pods/images"
)

func main() { kit.Main(setup) }

// setup takes nothing: containerd is asked when there is something to ask.
func setup(_ context.Context, d *kit.Daemon) error {
	c, err := newContainerd(socket)
	if err != nil {
		return err
	}
	pods.Register(d.IPC, newServer(c, storage.NewClient(d.Peer("storage")), d.Log))
	d.Go("import the system's images", func(ctx context.Context) error { return importSystem(ctx, c, systemImages, d.Log) })
	d.OnStop(ender{c, machine.NewClient(d.Peer("machine")), d.Log}.stop)
	return nil
}
