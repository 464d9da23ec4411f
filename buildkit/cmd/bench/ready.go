package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/test/vm"
)

const (
	// readyTimeout is for one boot with its pods, on a slow machine without KVM.
	readyTimeout = 40 * time.Minute
	// podsEach is how many pods are started one after the other in each boot.
	podsEach = 20
	// askEvery is how often a machine is asked whether its node is Ready. It says since
	// when, so nothing is lost by asking seldom.
	askEvery = 2 * time.Second
	// nodeMemory is enough that neither way of starting is short of it, in MiB.
	nodeMemory = 2048
)

// readiness compares how Dactyl starts Kubernetes, and how soon a pod runs on it, with
// the same programs started by hand in the same guest: the same production image but
// for kubed, which is built to start everything at once with no flag beyond those that
// are necessary. Both in turns, as boots does it.
func readiness(ctx context.Context, b *bench) ([]result, error) {
	_, ours, err := system.Image(ctx, "production", nil, os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "dactyl-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	byHand := filepath.Join(dir, "byhand.raw")
	if err := byHandImage(ctx, filepath.Join(dir, "root"), byHand); err != nil {
		return nil, err
	}
	workload, err := vm.WriteTestImage(ctx, ".", dir, vm.TestImageName, nil)
	if err != nil {
		return nil, err
	}
	ways := []*way{{name: "Dactyl", image: ours}, {name: "by hand", image: byHand}}
	for n := range b.times(3, 1) {
		for i, w := range ways {
			if err := w.measure(ctx, filepath.Join(dir, fmt.Sprint(i, n)), workload, podsEach); err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	d, h := ways[0], ways[1]
	ready, byHandReady := percentile(d.ready, 50), percentile(h.ready, 50)
	pod, byHandPod := percentile(d.pods, 50), percentile(h.pods, 50)
	return []result{
		atMost("gateway answers → node Ready, against the same programs started by hand", ready.Seconds()/byHandReady.Seconds(), 1.15, "×"),
		compared("gateway answers → node Ready", ready.Seconds(), "s"),
		compared("the same, started by hand", byHandReady.Seconds(), "s"),
		atMost("pod created → Running, its image present, p50, against the same programs started by hand", pod.Seconds()/byHandPod.Seconds(), 1.2, "×"),
		compared("pod created → Running, p50", pod.Seconds(), "s"),
	}, nil
}

// byHandImage is the production image, which has been built, with another kubed.
func byHandImage(ctx context.Context, root, out string) error {
	if text, err := exec.CommandContext(ctx, "cp", "-al", filepath.Join(system.Dir("production"), "root"), root).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the production image's root: %w: %s", err, text)
	}
	kubed := filepath.Join(root, "lib/dactyl/kubed")
	if err := os.Remove(kubed); err != nil { // the file itself is the production image's
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", manifest.Tags("production")+",byhand", "-ldflags", "-s -w", "-o", kubed, "./kubed")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build kubed: %w: %s", err, text)
	}
	return productionImage(ctx, root, out, "0.0.0-byhand")
}

// way is one way to start Kubernetes.
type way struct {
	name, image string

	ready []time.Duration // from the gateway's first answer
	pods  []time.Duration // from a pod's creation until it runs
}

// measure boots it once.
func (w *way) measure(ctx context.Context, dir, workload string, pods int) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	m, err := vm.Start(ctx, vm.Config{Image: w.image, Dir: dir, YAML: "kubernetes: {}\n", MemoryMiB: nodeMemory})
	if err != nil {
		return err
	}
	n := &bootedMachine{Machine: m, dir: dir}
	defer n.close()
	if err := w.boot(ctx, n); err != nil {
		return fmt.Errorf("%w\n%s", err, m.Serial.Last(20))
	}
	c, err := n.cluster(ctx, workload)
	if err != nil {
		return err
	}
	took, err := c.pods(ctx, pods)
	if err != nil {
		return err
	}
	w.pods = append(w.pods, took...)
	progress("%s: Ready after %.1f s, a pod after %.2f s", w.name, w.ready[len(w.ready)-1].Seconds(), percentile(w.pods, 50).Seconds())
	return nil
}

func (w *way) boot(ctx context.Context, m *bootedMachine) error {
	if err := gatewayAnswers(ctx, m.Machine); err != nil {
		return err
	}
	begin := time.Now()
	if err := m.claim(ctx); err != nil {
		return err
	}
	ready, err := m.nodeReady(ctx)
	if err != nil {
		return err
	}
	w.ready = append(w.ready, ready.Sub(begin))
	return m.tellStages(ctx, w.name, begin)
}

// tellStages prints when each component has become healthy, as far as it has stayed so.
func (m *bootedMachine) tellStages(ctx context.Context, name string, begin time.Time) error {
	now, err := kube.NewClient(m.admin).GetStatus(ctx, &kube.GetStatusRequest{Brief: true})
	if err != nil {
		return err
	}
	var stages []string
	for _, c := range now.Components {
		at := time.Since(begin) - time.Duration(c.SinceMs)*time.Millisecond
		stages = append(stages, fmt.Sprintf("%s %.1f", c.Name, at.Seconds()))
	}
	progress("%s, healthy after so many seconds: %s", name, strings.Join(stages, ", "))
	return nil
}

// nodeReady waits until all of Kubernetes is healthy and returns since when the node has
// been Ready.
func (m *bootedMachine) nodeReady(ctx context.Context) (time.Time, error) {
	var since time.Time
	for {
		now, err := kube.NewClient(m.admin).GetStatus(ctx, &kube.GetStatusRequest{Brief: true})
		switch {
		case m.Ended():
			return since, vm.ErrEnded
		case err != nil: // a daemon on the way has been started again
		case now.NodeReady && since.IsZero():
			since = time.Now().Add(-time.Duration(now.NodeReadyMs) * time.Millisecond)
		}
		if now.GetReady() {
			return since, nil
		}
		if sleep(ctx, askEvery) != nil {
			return since, errors.Join(err, fmt.Errorf("the node is not Ready: %s", now.GetMessage()))
		}
	}
}
