// Command podd speaks to containerd for the machine. See doc.go for what it never does.
package main

import (
	"context"
	"path/filepath"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/storage"
)

const (
	socket       = "/run/containerd/containerd.sock"
	systemImages = "/lib/pods/images"
	credentials  = "/state/podd/registries.json"
)

// given is where the kubelet finds the credentials: its home is the share (units/kubelet).
var given = filepath.Join(abi.ShareDir, "podd/pods/.docker/config.json")

func main() { kit.Main(setup) }

// setup gives the kubelet its credentials. It takes nothing: containerd is asked when
// there is something to ask.
func setup(_ context.Context, d *kit.Daemon) error {
	c, err := newContainerd(socket)
	if err != nil {
		return err
	}
	v := &vault{kept: credentials, given: given}
	if err := v.give(); err != nil {
		d.Log.Error("registries are asked without credentials", "err", err)
	}
	pods.Register(d.IPC, newServer(c, storage.NewClient(d.Peer("storage")), v, d.Log))
	d.Go("import the system's images", func(ctx context.Context) error { return importSystem(ctx, c, systemImages, d.Log) })
	d.OnStop(ender{c, machine.NewClient(d.Peer("machine")), d.Log}.stop)
	return nil
}
