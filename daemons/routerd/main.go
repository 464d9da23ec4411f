// Command routerd is the API gateway. See doc.go for what it never does.
package main

import (
	"context"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// apiPort is the socket that PID 1 holds for it.
const apiPort = "tcp:7400"

func main() { kit.Main(setup) }

// setup takes the port and the table. Nothing is accepted before there is a
// certificate, which takes as long as trustd does.
func setup(_ context.Context, d *kit.Daemon) error {
	listener, err := d.Listener(apiPort)
	if err != nil {
		return err
	}
	table, err := readTable(abi.RoutesPath, d.Peer)
	if err != nil {
		return kit.Misconfigured(err)
	}
	schema, err := readSchema(abi.DescriptorsPath, table)
	if err != nil {
		return kit.Misconfigured(err)
	}
	k := newKeeper(trust.NewClient(d.Peer("trust")).IssueServer, time.Now, d.Log)
	s := newServer(newGateway(table, time.Now, d.Log, newGate(listener, k, d.Log), arriveWithin), schema)
	d.Go("keep certificate", k.keep)
	d.Go("serve", s.run)
	d.OnStop(s.stop)
	return nil
}
