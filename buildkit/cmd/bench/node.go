package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/test/vm"
)

const (
	nodePort = 30080
	// requestEvery is how often a pod is asked while kubed is replaced.
	requestEvery = 20 * time.Millisecond
	// requestTimeout is far longer than an answer takes.
	requestTimeout = 20 * time.Second
)

// node is what a node that is Ready costs, and whether its pods notice a new kubed.
func node(ctx context.Context, b *bench) ([]result, error) {
	m, c, err := startNode(ctx)
	if err != nil {
		return nil, err
	}
	defer m.close()
	if err := sleep(ctx, time.Duration(b.times(120, 20))*time.Second); err != nil {
		return nil, err
	}
	idle, err1 := m.idleCPU(ctx, time.Duration(b.times(60, 15))*time.Second)
	used, err2 := m.memoryUsed(ctx)
	pss, err3 := m.ownPSS(ctx)
	lost, err4 := m.replaceKubed(ctx, c, b.times(10, 3))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	return []result{
		atMost("memory in use 2 minutes after Ready", used/1e6, 480, "MB"),
		atMost("PSS of init and all daemons but etcdd, 2 minutes after Ready", pss, 55, "MB"),
		compared("processor time, idle, 2 minutes after Ready, of one core (without KVM: of an emulated one)", 100*idle, "%"),
		lost,
	}, nil
}

// startNode boots the test image until its node is Ready and all of Kubernetes healthy.
func startNode(ctx context.Context) (*bootedMachine, *apiServer, error) {
	_, image, err := system.Image(ctx, "test", nil, os.Stderr)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "dactyl-bench-")
	if err != nil {
		return nil, nil, err
	}
	v, err := vm.Start(ctx, vm.Config{Image: image, Dir: dir, YAML: "kubernetes: {}\n", MemoryMiB: nodeMemory, Forward: []int{nodePort}})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	m := &bootedMachine{Machine: v, dir: dir}
	c, err := m.untilReady(ctx)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, v.Serial.Last(20))
		m.close()
	}
	return m, c, err
}

func (m *bootedMachine) untilReady(ctx context.Context) (*apiServer, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := m.claim(ctx); err != nil {
		return nil, err
	}
	if _, err := m.nodeReady(ctx); err != nil {
		return nil, err
	}
	archive, err := vm.WriteTestImage(ctx, ".", m.dir, vm.TestImageName, nil)
	if err != nil {
		return nil, err
	}
	return m.cluster(ctx, archive)
}

// idleCPU returns how much of one processor is used.
func (m *bootedMachine) idleCPU(ctx context.Context, d time.Duration) (float64, error) {
	begin := time.Now()
	before, err := m.busy(ctx)
	if err != nil {
		return 0, err
	}
	if err := sleep(ctx, d); err != nil {
		return 0, err
	}
	after, err := m.busy(ctx)
	return (after - before).Seconds() / time.Since(begin).Seconds(), err
}

// busy is the time for which all processors have worked, of /proc/stat.
func (m *bootedMachine) busy(ctx context.Context) (time.Duration, error) {
	f, err := probe.NewClient(m.admin).ReadFile(ctx, &probe.ReadFileRequest{Path: "/proc/stat"})
	if err != nil {
		return 0, err
	}
	const tick = 10 * time.Millisecond
	var user, nice, kernel, idle, wait, hard, soft time.Duration
	first, _, _ := strings.Cut(string(f.Content), "\n")
	if _, err := fmt.Sscanf(first, "cpu %d %d %d %d %d %d %d", &user, &nice, &kernel, &idle, &wait, &hard, &soft); err != nil {
		return 0, fmt.Errorf("/proc/stat: %q: %w", first, err)
	}
	return (user + nice + kernel + hard + soft) * tick, nil
}

// memoryUsed is MemTotal − MemAvailable, in bytes.
func (m *bootedMachine) memoryUsed(ctx context.Context) (float64, error) {
	f, err := probe.NewClient(m.admin).ReadFile(ctx, &probe.ReadFileRequest{Path: "/proc/meminfo"})
	if err != nil {
		return 0, err
	}
	total, err1 := kibibytes(f.Content, "MemTotal")
	available, err2 := kibibytes(f.Content, "MemAvailable")
	return float64(total-available) * 1024, errors.Join(err1, err2)
}

// ownPSS is the memory of what Dactyl itself is, in MB, without its database: the
// median of several looks.
func (m *bootedMachine) ownPSS(ctx context.Context) (float64, error) {
	manifests, err := manifest.Load(".", "production")
	if err != nil {
		return 0, err
	}
	counted := map[string]bool{"init": true}
	for _, d := range manifests {
		counted[d.Name] = !d.Foreign() && d.Name != "etcdd"
	}
	var looks []float64
	for range looksAtMemory {
		all, err := probe.NewClient(m.admin).ListProcesses(ctx, &probe.ListProcessesRequest{RestMs: uint32(betweenLooks / time.Millisecond)})
		if err != nil {
			return 0, err
		}
		looks = append(looks, shares(all.Processes, counted))
	}
	return median(looks), nil
}

// replaceKubed uploads kubed n times, while a pod is asked through the node's port.
func (m *bootedMachine) replaceKubed(ctx context.Context, c *apiServer, n int) (result, error) {
	r := result{what: fmt.Sprintf("pods' requests failed over %d replacements of kubed", n), target: "0"}
	if err := c.serve(ctx, "http://"+m.Forwarded(nodePort)+"/"); err != nil {
		return r, err
	}
	binary, err := os.ReadFile(filepath.Join(system.Dir("test"), "root", abi.DaemonDir, "kubed"))
	if err != nil {
		return r, err
	}
	stop := ask(ctx, "http://"+m.Forwarded(nodePort)+"/")
	for i := range n {
		if err = replace(ctx, m.admin, "kubed", fmt.Appendf(binary, "\n%d", i)); err != nil {
			break
		}
	}
	made, lost := stop()
	r.measured, r.missed = fmt.Sprintf("%d of %d", lost, made), lost > 0
	return r, err
}

// serve starts a pod that answers at url, on the node's port.
func (a *apiServer) serve(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	if err := a.create(ctx, podsPath, pod("server")); err != nil {
		return err
	}
	service := map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "server"},
		"spec": map[string]any{"type": "NodePort", "selector": map[string]string{"app": "bench"}, "ports": []any{map[string]any{"port": 8080, "nodePort": nodePort}}},
	}
	if err := a.create(ctx, "/api/v1/namespaces/default/services", service); err != nil {
		return err
	}
	for {
		err := get(ctx, url)
		if err == nil || !vm.Pause(ctx) {
			return err
		}
	}
}

func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Close = true // each request finds its way anew
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return nil
}

// ask makes requests until stop is called, which tells how many there were.
func ask(ctx context.Context, url string) (stop func() (made, lost int64)) {
	asking, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var made, lost atomic.Int64
	wg.Go(func() {
		for sleep(asking, requestEvery) == nil {
			made.Add(1)
			if err := get(ctx, url); err != nil {
				lost.Add(1)
				progress("a request failed: %v", err)
			}
		}
	})
	return func() (int64, int64) {
		cancel()
		wg.Wait()
		return made.Load(), lost.Load()
	}
}
