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

// boot is one machine on its way from power-on to a pod.
type boot struct {
	m      *vm.Machine
	dir    string
	begin  time.Time
	stages []stage
	dactyl dactyl
	kube   kubectl
}

// done prints a stage that is over with the time since power-on.
func (b *boot) done(format string, a ...any) {
	fmt.Printf("%5.1f s  %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, a...))
}

// stage is a part of the way.
type stage func(context.Context) error

// bringUp goes through the stages.
func (b *boot) bringUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	for _, stage := range b.stages {
		if err := stage(ctx); err != nil {
			return err
		}
	}
	fmt.Println()
	return b.dactyl.run(ctx, "kube", "status", "--address", b.dactyl.address)
}

// consoleStages are lines on the serial console by which a boot can be followed.
var consoleStages = []struct{ name, pattern string }{
	{"PID 1 runs: firmware, boot loader and kernel are done, the root is verified", vm.Started},
	{"the gateway answers", `dactyl .* ready`},
}

func (b *boot) console(ctx context.Context) error {
	for _, stage := range consoleStages {
		if _, err := b.m.Serial.WaitFor(ctx, 0, stage.pattern); err != nil {
			return err
		}
		b.done("%s", stage.name)
	}
	return nil
}

func (b *boot) claim(ctx context.Context) error {
	if _, err := os.Stat(b.dactyl.config); err == nil {
		return nil // in an earlier run
	}
	code, err := b.m.Serial.WaitFor(ctx, 0, `pairing code: ([0-9A-Z-]{24,})`)
	if err != nil {
		return err
	}
	if err := b.dactyl.run(ctx, "claim", b.dactyl.address, "--code", code[1]); err != nil {
		return err
	}
	b.done("claimed with the code on its console")
	return nil
}

// addContext gives the dactyl command the credentials of a restored machine's admin.
func (b *boot) addContext(ctx context.Context, admin vm.Identity) error {
	if err := admin.WriteFiles(b.dir); err != nil {
		return err
	}
	_, err := b.dactyl.output(ctx, "context", "add", "machine", "--from", b.dir, "--address", b.dactyl.address)
	return err
}

// node follows Kubernetes' components until the node is Ready.
func (b *boot) node(ctx context.Context) error {
	told := map[string]bool{}
	for {
		now, err := b.dactyl.kubeStatus(ctx)
		if now.State == kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED.String() {
			return errors.New("the cluster.yaml has no section kubernetes: nothing of it runs")
		}
		for _, c := range now.Components {
			if c.Healthy && !told[c.Name] {
				told[c.Name] = true
				b.done("%s is healthy", c.Name)
			}
		}
		if now.Ready {
			b.done("the node %s is Ready", now.Node)
			return nil
		}
		if !pauseBetweenLooks(ctx) {
			return errors.Join(fmt.Errorf("the node is not Ready: %s", now.Message), err)
		}
	}
}

// credentials writes the kubeconfig.
func (b *boot) credentials(ctx context.Context) error {
	path, err := filepath.Abs(filepath.Join(b.dir, "kubeconfig"))
	if err != nil {
		return err
	}
	text, err := b.dactyl.output(ctx, "kubeconfig", "--server", b.m.KubeURL(), "--address", b.dactyl.address)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	b.kube, err = findKubectl(ctx, path)
	return err
}

// pod loads an image and runs a pod of it.
func (b *boot) pod(ctx context.Context) error {
	archive, err := vm.WriteTestImage(ctx, ".", b.dir, vm.TestImageName, nil)
	if err != nil {
		return err
	}
	if _, err := b.dactyl.output(ctx, "image", "load", archive, "--address", b.dactyl.address); err != nil {
		return err
	}
	b.done("the image %s is loaded", vm.TestImageName)
	// No pod is accepted before the controller-manager has made its account.
	if _, err := b.kube.output(ctx, "wait", "--for=create", "--timeout=5m", "serviceaccount/default"); err != nil {
		return err
	}
	there, err := b.kube.output(ctx, "get", "pod", "hello", "--ignore-not-found", "--output=name")
	if err == nil && len(there) == 0 { // else it is an earlier run's, which starts again by itself
		_, err = b.kube.output(ctx, "run", "hello", "--image="+vm.TestImageName)
	}
	if err != nil {
		return err
	}
	if _, err := b.kube.output(ctx, "wait", "--for=condition=Ready", "--timeout=5m", "pod/hello"); err != nil {
		return err
	}
	b.done("the pod hello runs; its log:")
	for {
		said, err := b.kube.output(ctx, "logs", "hello")
		if len(said) > 0 || err != nil || !vm.Pause(ctx) { // its first line may be on its way
			fmt.Printf("         %s", said)
			return err
		}
	}
}

func (b *boot) powerOff() error {
	if b.m.Ended() {
		return nil
	}
	fmt.Println("\npowering off")
	ctx, cancel := context.WithTimeout(context.Background(), offTimeout)
	defer cancel()
	if err := b.dactyl.run(ctx, "shutdown", "--yes", "--address", b.dactyl.address); err != nil {
		return fmt.Errorf("the machine does not power off, pulling the plug: %w", err)
	}
	if err := b.m.Wait(ctx); err != nil {
		return fmt.Errorf("pulling the plug: %w", err)
	}
	return nil
}

func (b *boot) hints() {
	config, err := filepath.Abs(b.dactyl.config)
	if err != nil {
		config = b.dactyl.config
	}
	fmt.Printf(`
The node is Ready. In another terminal:

  export DACTYL_CONFIG=%s DACTYL_ADDRESS=%s
  export KUBECONFIG=%s
  %[4]s get nodes -o wide
  %[4]s get pods -A
  %[4]s exec hello -- workload ps
  %[4]s port-forward pod/hello 8080:8080
  out/dactyl kube status
  out/dactyl image list
  out/dactyl logs kubelet -f
  out/dactyl kube restart kubelet
  out/dactyl daemons
  out/dactyl --help

Ctrl-C powers it off.
`, config, b.dactyl.address, b.kube.config, b.kube.program)
}

// betweenLooks is seldom enough that asking, a handshake each time, does not keep an
// emulated machine from what it is asked about.
const betweenLooks = 3 * time.Second

// pauseBetweenLooks returns false when ctx has ended.
func pauseBetweenLooks(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(betweenLooks):
		return true
	}
}
