package main

import (
	"context"
	"sync"
	"time"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// answerWithin is how long a look waits for a peer: one that starts holds calls
// back, and the others should not wait to be shown.
const answerWithin = 500 * time.Millisecond

// peers are the services that are asked.
type peers struct {
	machine machine.Client
	network network.Client
	trust   trust.Client
	kube    kube.Client
}

func newPeers(peer func(service string) ipc.Conn) peers {
	return peers{machine.NewClient(peer("machine")), network.NewClient(peer("network")), trust.NewClient(peer("trust")), kube.NewClient(peer("kube"))}
}

// look returns v with what has changed since. What a peer does not answer
// stays as it was.
func (p peers) look(ctx context.Context, v view) view {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var all sync.WaitGroup
	for _, ask := range []func(context.Context, *view){p.system, p.daemons, p.addresses, p.pairing, p.status} {
		all.Go(func() { ask(ctx, &v) })
	}
	all.Wait()
	return v
}

// Each of the following sets one part of v, and no other.

func (p peers) system(ctx context.Context, v *view) {
	if r, err := p.machine.GetVersion(ctx, &machine.GetVersionRequest{}); err == nil {
		v.system = &system{r.Version, r.Mode, r.Kernel, r.Hostname}
	}
}

func (p peers) daemons(ctx context.Context, v *view) {
	r, err := p.machine.ListDaemons(ctx, &machine.ListDaemonsRequest{Brief: true})
	if err != nil {
		return
	}
	var all []daemon
	for _, d := range r.Daemons {
		all = append(all, daemon{d.Name, d.Reason, d.State, d.Restarts, d.OnRequest})
	}
	v.daemons = &all
}

func (p peers) addresses(ctx context.Context, v *view) {
	r, err := p.network.ListAddresses(ctx, &network.ListAddressesRequest{})
	if err != nil {
		return
	}
	var all []string
	for _, a := range r.Addresses {
		if a.Scope != "host" && a.Origin != "other" { // nobody reaches the machine's own or a pod network's
			all = append(all, a.Address)
		}
	}
	all = reachable(all)
	v.addresses = &all
}

func (p peers) pairing(ctx context.Context, v *view) {
	if r, err := p.trust.GetPairing(ctx, &trust.GetPairingRequest{}); err == nil {
		v.pairing = &pairing{r.Code, r.Fingerprint}
	}
}

func (p peers) status(ctx context.Context, v *view) {
	if r, err := p.kube.GetStatus(ctx, &kube.GetStatusRequest{Brief: true}); err == nil {
		v.kube = &cluster{r.State, r.Cluster, r.Node, r.Message}
	}
}
