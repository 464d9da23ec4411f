package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/test/vm"
)

// resumes is how soon a machine that is restored from a snapshot is of use to a scenario.
func resumes(ctx context.Context, b *bench) ([]result, error) {
	_, image, err := system.Image(ctx, "test", nil, os.Stderr)
	if err != nil {
		return nil, err
	}
	kubectl, err := vm.BuildKubectl(ctx, ".")
	if err != nil {
		return nil, err
	}
	// One more than is counted: the first may make the snapshot, and reads it from the disk.
	var answers, execs []time.Duration
	for n := range 1 + b.times(5, 1) {
		answer, exec, err := resume(ctx, image, kubectl)
		if err != nil {
			return nil, err
		}
		progress("the API answers after %.1f s, kubectl exec after %.1f s", answer.Seconds(), exec.Seconds())
		if n > 0 {
			answers, execs = append(answers, answer), append(execs, exec)
		}
	}
	return []result{
		atMost("restored machine → first API answer, p50", percentile(answers, 50).Seconds(), 6, "s"),
		atMost("restored machine → kubectl exec has run a program in a pod, p50", percentile(execs, 50).Seconds(), 12, "s"),
	}, nil
}

// resume restores one machine.
func resume(ctx context.Context, image, kubectl string) (answer, execution time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "dactyl-bench-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	begin := time.Now()
	m, id, err := vm.Resume(ctx, ctx, ".", vm.Config{Image: image, Dir: dir}, progress)
	if err != nil {
		return 0, 0, err
	}
	defer m.Kill()
	admin, err := vm.Dial(m.API, id)
	if err != nil {
		return 0, 0, err
	}
	defer admin.Close()
	if _, err := machine.NewClient(admin).GetVersion(ctx, &machine.GetVersionRequest{}); err != nil {
		return 0, 0, err
	}
	answer = time.Since(begin)
	text, err := vm.Kubeconfig(ctx, admin, m.KubeURL())
	if err != nil {
		return 0, 0, err
	}
	config := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return 0, 0, err
	}
	out, err := exec.CommandContext(ctx, kubectl, "--kubeconfig", config, "--namespace", vm.ReadyNamespace, "exec", vm.ReadyPod, "--", "workload", "true").CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("kubectl exec: %w: %s", err, out)
	}
	return answer, time.Since(begin), nil
}
