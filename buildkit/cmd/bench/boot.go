package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dactyl-os/dactyl/buildkit/image"
	"github.com/dactyl-os/dactyl/buildkit/kernel"
	"github.com/dactyl-os/dactyl/buildkit/sign"
	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/test/vm"
)

// bootTimeout is for a machine without KVM that has other things to do.
const bootTimeout = 4 * time.Minute

// boots compares a boot of Dactyl with the least that a boot can be: the same
// firmware, boot loader, kernel, command line and kind of root, and an init that
// does nothing. Both in turns, so that a build machine that gets slower or
// faster meanwhile does so for both.
func boots(ctx context.Context, b *bench) ([]result, error) {
	_, whole, err := system.Image(ctx, "production", nil, os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "dactyl-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	least := filepath.Join(dir, "trivial.raw")
	if err := trivialImage(ctx, filepath.Join(dir, "root"), least); err != nil {
		return nil, err
	}
	var trivial, answers []time.Duration
	for n := range b.times(3, 1) {
		t, err := powerOn(ctx, least, filepath.Join(dir, fmt.Sprint("trivial", n)), saysUp)
		if err != nil {
			return nil, fmt.Errorf("trivial init: %w", err)
		}
		a, err := powerOn(ctx, whole, filepath.Join(dir, fmt.Sprint("whole", n)), gatewayAnswers)
		if err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
		progress("trivial init after %.1f s, gateway after %.1f s", t.Seconds(), a.Seconds())
		trivial, answers = append(trivial, t), append(answers, a)
	}
	t, a := percentile(trivial, 50), percentile(answers, 50)
	return []result{
		atMost("power-on → gateway answers, against power-on → a trivial init", a.Seconds()/t.Seconds(), 1.6, "×"),
		compared("power-on → gateway answers", a.Seconds(), "s"),
		compared("power-on → a trivial init", t.Seconds(), "s"),
	}, nil
}

// trivialImage is made as system.Image makes the production image, of a root
// that has a trivial init and nothing else.
func trivialImage(ctx context.Context, root, out string) error {
	for _, d := range []string{root, filepath.Join(root, "dev")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(root, "init"), "./test/native/testdata/trivial")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the trivial init: %w: %s", err, text)
	}
	return productionImage(ctx, root, out, "0.0.0-trivial")
}

// productionImage makes a production image of a root.
func productionImage(ctx context.Context, root, out, version string) error {
	k, err := kernel.Build(ctx, "", os.Stderr)
	if err != nil {
		return err
	}
	spec, err := image.LoadSpec("buildkit/image.toml")
	if err != nil {
		return err
	}
	keys, err := sign.ForMode("test") // the production key signs production images alone
	if err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	_, err = image.Make(ctx, image.Inputs{
		Spec: spec, Root: root, Kernel: k.Image, KernelRelease: k.Version,
		CommandLine: []string{kernel.CommandLine()}, Version: version, Mode: image.Production, Epoch: system.Epoch, Keys: keys,
		Cache: filepath.Join(cache, "dactyl", "squashfs"), // where the production image has left most of it
	}, out)
	return err
}

// powerOn starts a machine on a new disk and returns how long it takes until up
// returns.
func powerOn(ctx context.Context, image, dir string, up func(context.Context, *vm.Machine) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	m, err := vm.Start(ctx, vm.Config{Image: image, Dir: dir})
	if err != nil {
		return 0, err
	}
	defer m.Kill()
	begin := time.Now()
	if err := up(ctx, m); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, m.Serial.Last(20))
	}
	return time.Since(begin), nil
}

func saysUp(ctx context.Context, m *vm.Machine) error {
	_, err := m.Serial.WaitFor(ctx, 0, `trivial: up`)
	return err
}

const (
	// knockEvery is how exactly the moment is known at which the gateway answers.
	knockEvery = 200 * time.Millisecond
	// knockWait is how long one attempt may take: one that was made before there
	// was a network gets no answer at all.
	knockWait = time.Second
	// knocksAtOnce keeps the measurement from being what is measured: all attempts
	// under way reach the machine at the moment at which it has an address, and each is
	// two TLS handshakes for an emulated processor.
	knocksAtOnce = 3
)

// gatewayAnswers knocks until a call has been answered over TLS.
func gatewayAnswers(ctx context.Context, m *vm.Machine) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan struct{}, 1)
	places := make(chan struct{}, knocksAtOnce)
	next := time.NewTicker(knockEvery)
	defer next.Stop()
	for {
		select {
		case places <- struct{}{}:
			go func() {
				defer func() { <-places }()
				if healthy(ctx, m.API) == nil {
					select {
					case answered <- struct{}{}:
					default:
					}
				}
			}()
		default:
		}
		select {
		case <-answered:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-next.C:
			if m.Ended() {
				return vm.ErrEnded
			}
		}
	}
}

// healthy makes one attempt at the call that needs no certificate.
func healthy(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, knockWait)
	defer cancel()
	authority, err := vm.Authority(ctx, address)
	if err != nil {
		return err
	}
	c, err := vm.Dial(address, vm.Identity{Authority: authority})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = grpc_health_v1.NewHealthClient(c.CC).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}
