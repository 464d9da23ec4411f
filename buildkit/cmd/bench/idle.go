package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/test/vm"
)

// nativeReady is how long a node may take natively: seconds on an idle machine.
const nativeReady = 5 * time.Minute

// idle is what a Ready node with no pod takes of this machine's own processor: PID 1,
// all daemons and all of Kubernetes, in a cgroup that nothing else is in.
func idle(ctx context.Context, b *bench) (_ []result, err error) {
	restore, err := lendSysctls(kubeletChecks)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	dir, err := os.MkdirTemp("", "dactyl-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := startNative(ctx, "production", filepath.Join(dir, "root"), "kubernetes: {}\n")
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.nodeReady(ctx); err != nil {
		return nil, err
	}
	if err := sleep(ctx, time.Duration(b.times(120, 20))*time.Second); err != nil {
		return nil, err
	}
	used, err := s.share(ctx, time.Duration(b.times(60, 15))*time.Second)
	return []result{
		atMost("processor time, idle, 2 minutes after Ready, of one core, natively", 100*used, 6, "%"),
	}, err
}

// nodeReady waits until all of Kubernetes is healthy.
func (s *nativeSystem) nodeReady(life context.Context) error {
	ctx, cancel := context.WithTimeout(life, nativeReady)
	defer cancel()
	for {
		now, err := kube.NewClient(s.admin).GetStatus(ctx, &kube.GetStatusRequest{Brief: true})
		if now.GetReady() {
			return nil
		}
		if sleep(ctx, 100*time.Millisecond) != nil {
			ctx, cancel := context.WithTimeout(life, upTimeout) // ctx has ended, and who does not answer may never
			defer cancel()
			return errors.Join(err, fmt.Errorf("the node is not Ready: %s\n%s", now.GetMessage(), vm.LogsOfIll(ctx, s.admin)))
		}
	}
}

// share is how much of one processor all its processes take.
func (s *nativeSystem) share(ctx context.Context, d time.Duration) (float64, error) {
	begin := time.Now()
	before, err := s.ProcessorTime()
	if err != nil {
		return 0, err
	}
	if err := sleep(ctx, d); err != nil {
		return 0, err
	}
	after, err := s.ProcessorTime()
	return (after - before).Seconds() / time.Since(begin).Seconds(), err
}
