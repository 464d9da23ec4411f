// Command trustd owns the machine's keys and certificates. See doc.go for what it never does.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// stateDir is the one directory that trustd may write to.
const stateDir = "/state/trustd"

func main() { kit.Main(setup) }

// setup reads the machine's identity, or makes it on first boot.
func setup(_ context.Context, d *kit.Daemon) error {
	dir, err := openDirectory(stateDir)
	if err != nil {
		return err
	}
	e, err := openEngine(dir, time.Now, rand.Reader)
	if errors.Is(err, errDamaged) {
		return kit.Misconfigured(err)
	}
	if err != nil {
		return err
	}
	names := asker{network.NewClient(d.Peer("network")), machine.NewClient(d.Peer("machine")), d.Log}
	trust.Register(d.IPC, &server{engine: e, names: names.names, log: d.Log})
	return nil
}
