// Command kubed supervises Kubernetes. See doc.go for what it never does.
package main

import (
	"context"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/kube"
)

func main() { kit.Main(setup) }

func setup(_ context.Context, d *kit.Daemon) error {
	kube.Register(d.IPC, newServer(unconfigured))
	return nil
}
