package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dactyl-os/dactyl/daemons/podd/internal/cri"
	machineapi "github.com/dactyl-os/dactyl/ipc/machine"
)

// ender ends the pods when the machine does, and only then: podd itself may be
// restarted at any time.
type ender struct {
	c       *containerd
	machine machineapi.Client
	log     *slog.Logger
}

// stop is called when podd is to end.
func (e ender) stop(ctx context.Context) {
	v, err := e.machine.GetVersion(ctx, &machineapi.GetVersionRequest{})
	switch {
	case err != nil:
		// Pods that end without notice when the machine does are the lesser evil.
		e.log.Warn("PID 1 does not say whether the machine ends; pods stay", "err", err)
	case v.Ending:
		e.end(ctx)
	}
}

// end ends all pods, wave by wave, within endTimeout.
func (e ender) end(ctx context.Context) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	sandboxes, containers, err := e.c.both(ctx)
	if err != nil {
		e.log.Warn("pods are not ended", "err", err)
		return
	}
	pods := 0
	for _, w := range waves(sandboxes, containers) {
		e.each(w.containers, func(v victim) error {
			_, err := e.c.cri.StopContainer(ctx, &cri.StopContainerRequest{
				ContainerId: v.id, Timeout: int64(allowed(v.grace, endTimeout-time.Since(began)).Seconds()),
			})
			return err
		})
		e.each(w.sandboxes, func(v victim) error {
			_, err := e.c.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: v.id})
			return err
		})
		pods += len(w.sandboxes)
	}
	e.log.Info("pods ended", "pods", pods, "took", time.Since(began).Round(time.Millisecond).String())
}

// each stops all victims at the same time.
func (e ender) each(all []victim, stop func(victim) error) {
	var done sync.WaitGroup
	for _, v := range all {
		done.Go(func() {
			if err := stop(v); err != nil {
				e.log.Warn("not ended", "name", v.name, "err", err)
			}
		})
	}
	done.Wait()
}
