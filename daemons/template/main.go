package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/dactyl-os/dactyl/daemons/kit"
)

// interval is how often the kernel is asked: its shortest average is over ten seconds.
const interval = 5 * time.Second

func main() { kit.Main(setup) }

// setup takes what template will ever need. When it returns, kit gives up the
// right to take more; only then do the jobs start.
func setup(_ context.Context, d *kit.Daemon) error {
	k, err := openKernel()
	if err != nil {
		return kit.Unwanted(err) // a kernel that does not measure pressure
	}
	w := &watch{kernel: k, log: d.Log}
	d.Go("watch memory", func(ctx context.Context) error { return w.run(ctx, interval) })
	return nil
}

// kernel is all that template knows of the machine.
type kernel interface {
	memoryPressure() (string, error)
}

// watch is the state of memory as it was last told.
type watch struct {
	kernel kernel
	log    *slog.Logger
	state  state
}

// run looks until ctx ends.
func (w *watch) run(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := w.look(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look looks once.
func (w *watch) look() error {
	text, err := w.kernel.memoryPressure()
	if err != nil {
		return err
	}
	percent, err := parsePressure(text)
	if err != nil {
		return err
	}
	next, news := step(w.state, percent)
	w.state = next
	if news != "" {
		w.log.Info(news, "waiting_percent", percent)
	}
	return nil
}
