// Command storaged owns disks and mounts. See doc.go for what it never does.
package main

import (
	"context"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/storage"
)

func main() { kit.Main(setup) }

// setup mounts the volumes: daemons of later tiers start in them. It is also the
// last moment at which storaged can mount or start e2fsck, and that is why all of it happens here.
// What may take long, growing filesystems, follows when others already work.
func setup(ctx context.Context, d *kit.Daemon) error {
	k, err := openMachine(ctx, d.Log)
	if err != nil {
		return err
	}
	e := newEngine()
	seen, err := settle(ctx, k, e, d.Log)
	if err != nil {
		return err
	}
	storage.Register(d.IPC, newServer(k, seen, e.notes(seen)))
	d.Go("grow filesystems", func(ctx context.Context) error {
		wait(ctx, growDelay)
		growAll(ctx, k, growths(seen), d.Log)
		return nil
	})
	return nil
}
