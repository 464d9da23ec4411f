// Command mischiefd stands for a daemon in which an attacker runs code of his
// own. Sealed like every daemon, it tries each way out once and writes what came
// of it to its log, where scenario escape reads it:
//
//	attempt "execve of its own binary": refused: operation not permitted
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dactyl-os/dactyl/daemons/kit"
)

func main() { kit.Main(setup) }

func setup(_ context.Context, d *kit.Daemon) error {
	peer := d.Peer("network")
	d.Go("try to break out", func(ctx context.Context) error {
		for _, a := range attempts(d.Spec.Exec, peer) {
			report(d, a.name, a.try(ctx))
		}
		d.Log.Info("all attempts made")
		<-ctx.Done()
		return nil
	})
	return nil
}

// errMissing is the refusal of what does not even exist for this daemon.
var errMissing = errors.New("nothing there")

func report(d *kit.Daemon, name string, err error) {
	if err == nil {
		d.Log.Error(fmt.Sprintf("attempt %q: SUCCEEDED", name))
		return
	}
	d.Log.Info(fmt.Sprintf("attempt %q: refused: %v", name, err))
}
