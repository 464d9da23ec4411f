// Command trustd owns the machine's keys and certificates. See doc.go for what it never does.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	timeapi "github.com/dactyl-os/dactyl/ipc/time"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// stateDir is where trustd keeps what must survive. Else it writes only to where
// Kubernetes' parts find what it gives them.
const stateDir = "/state/trustd"

func main() { kit.Main(setup) }

// setup reads the machine's identity, or makes it on first boot.
func setup(_ context.Context, d *kit.Daemon) error {
	dir, err := openDirectory(stateDir)
	if err != nil {
		return err
	}
	parts, err := openShare(filepath.Join(abi.ShareDir, d.Spec.Name))
	if err != nil {
		return err
	}
	epoch := time.Unix(d.Spec.Epoch, 0)
	e, err := openEngine(dir, parts, machineClock(confirmedBy(timeapi.NewClient(d.Peer("time"))), epoch), rand.Reader)
	if errors.Is(err, errDamaged) {
		return kit.Misconfigured(err)
	}
	if err != nil {
		return err
	}
	names := asker{network.NewClient(d.Peer("network")), machine.NewClient(d.Peer("machine")), d.Log}
	s := &server{engine: e, names: names.names, log: d.Log}
	trust.Register(d.IPC, s)
	d.Go("renew certificates", s.keep)
	return nil
}
