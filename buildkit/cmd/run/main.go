// Command run builds a development image and boots it in QEMU from an emulated
// USB stick, under UEFI: the shortest way from a clone to a running cluster. It
// claims the machine, waits until its node is Ready, starts a pod from an image
// that it loads, shows what the pod says, and says what to try next. Ctrl-C powers
// the machine off.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/progress"
	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/test/vm"
)

const (
	// upTimeout is for a machine without KVM that has other things to do: from
	// power-on to a pod that runs.
	upTimeout = 15 * time.Minute
	// offTimeout is how long a clean power-off may take: pods are given time to end.
	offTimeout = 2 * time.Minute
)

// options are the command line's.
type options struct {
	mode    string
	config  string // file
	keep    bool
	resume  bool
	once    bool
	verbose bool
}

func main() {
	var o options
	flag.StringVar(&o.mode, "mode", "dev", "image `mode`: production, dev or test")
	flag.StringVar(&o.config, "config", "", "`cluster.yaml` for the stick (default one with \"kubernetes: {}\")")
	flag.BoolVar(&o.keep, "keep", false, "go on with the disk of the last run instead of a fresh stick")
	flag.BoolVar(&o.resume, "resume", false, "go on from a snapshot of a Ready node, which is made if this image has none; its clock is up to 12 hours late")
	flag.BoolVar(&o.once, "once", false, "power off as soon as the pod has run")
	flag.BoolVar(&o.verbose, "v", false, "show the machine's serial line")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	yaml, err := o.yaml()
	if err != nil {
		return err
	}
	report, err := progress.Open(os.Stderr, system.Log(o.mode))
	if err != nil {
		return err
	}
	_, image, err := system.Image(ctx, o.mode, nil, report)
	if err := report.Close(err); err != nil {
		return err
	}
	if o.resume && o.keep {
		return errors.New("-resume and -keep: a snapshot has its own disk")
	}
	dir := filepath.Join(system.Dir(o.mode), "machine")
	if !o.keep {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := o.powerOn(ctx, vm.Config{Image: image, Dir: dir, MemoryMiB: 2048, CPUs: 2, YAML: yaml})
	if err != nil {
		return err
	}
	defer b.m.Kill()
	if o.verbose {
		b.m.Serial.Echo(os.Stderr)
	}
	if err := b.bringUp(ctx); err != nil {
		return errors.Join(err, b.powerOff())
	}
	if !o.once {
		b.hints()
		select {
		case <-ctx.Done():
		case <-ended(b.m):
		}
	}
	return b.powerOff()
}

// powerOn starts the machine. QEMU outlives the first Ctrl-C: the machine is asked to power
// off by itself.
func (o options) powerOn(ctx context.Context, c vm.Config) (*boot, error) {
	b := &boot{dir: c.Dir, begin: time.Now(), dactyl: dactyl{config: filepath.Join(c.Dir, "config")}}
	var err error
	if !o.resume {
		b.stages = []stage{b.console, b.claim, b.node, b.credentials, b.pod}
		if b.m, err = vm.Start(context.WithoutCancel(ctx), c); err == nil {
			b.dactyl.address = b.m.API
		}
		return b, err
	}
	m, admin, err := vm.Resume(ctx, context.WithoutCancel(ctx), ".", c, b.done)
	if err != nil {
		return nil, err
	}
	b.m, b.dactyl.address, b.stages = m, m.API, []stage{b.node, b.credentials, b.pod}
	if err := b.addContext(ctx, admin); err != nil {
		m.Kill()
		return nil, err
	}
	return b, nil
}

// yaml is what the machine is told to be.
func (o options) yaml() (string, error) {
	if o.config == "" {
		return "kubernetes: {}\n", nil
	}
	text, err := os.ReadFile(o.config)
	return string(text), err
}

func ended(m *vm.Machine) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		m.Wait(context.Background())
		close(c)
	}()
	return c
}
