// Command kubed supervises Kubernetes. See doc.go for what it never does.
package main

import (
	"context"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/etcd"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

func main() { kit.Main(setup) }

func setup(_ context.Context, d *kit.Daemon) error {
	f := daemonFiles(d.Spec.Daemon)
	p := peers{
		config: config.NewClient(d.Peer("config")), etcd: etcd.NewClient(d.Peer("etcd")), machine: machine.NewClient(d.Peer("machine")),
		network: network.NewClient(d.Peer("network")), pods: pods.NewClient(d.Peer("pods")), trust: trust.NewClient(d.Peer("trust")),
	}
	s := newServer(p, f, newLocal(f), d.Log)
	s.worked = d.Worked
	kube.Register(d.IPC, s)
	d.Go("decide", s.decide)
	d.Go("follow the configuration", s.follow)
	d.Go("observe the machine", s.observe)
	return nil
}
