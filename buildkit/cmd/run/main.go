// Command run builds a development image and boots it in QEMU from an emulated
// USB stick, under UEFI: the shortest way from a clone to a running machine. It
// claims the machine, shows its daemons, and says what to try next. Ctrl-C powers
// the machine off.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/test/vm"
)

const (
	// bootTimeout is for a machine without KVM that has other things to do.
	bootTimeout = 5 * time.Minute
	// offTimeout is how long a clean power-off may take.
	offTimeout = time.Minute
	command    = "out/dactyl"
)

func main() {
	mode := flag.String("mode", "dev", "image `mode`: production, dev or test")
	keep := flag.Bool("keep", false, "go on with the disk of the last run instead of a fresh stick")
	once := flag.Bool("once", false, "power off as soon as all daemons are up")
	verbose := flag.Bool("v", false, "show the machine's serial line")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *mode, *keep, *once, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, mode string, keep, once, verbose bool) error {
	_, image, err := system.Image(ctx, mode, nil, os.Stderr)
	if err != nil {
		return err
	}
	dir := filepath.Join(system.Dir(mode), "machine")
	if !keep {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// QEMU outlives the first Ctrl-C: the machine is asked to power off by itself.
	m, err := vm.Start(context.WithoutCancel(ctx), vm.Config{Image: image, Dir: dir, NoReboot: false})
	if err != nil {
		return err
	}
	defer m.Kill()
	if verbose {
		m.Serial.Echo(os.Stderr)
	}
	d := dactyl{address: m.API, config: filepath.Join(dir, "config")}
	if err := bringUp(ctx, m, d); err != nil {
		return errors.Join(err, powerOff(m, d))
	}
	if !once {
		d.hints()
		select {
		case <-ctx.Done():
		case <-ended(m):
		}
	}
	return powerOff(m, d)
}

// bringUp follows the boot, claims the machine and shows its daemons.
func bringUp(ctx context.Context, m *vm.Machine, d dactyl) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	begin := time.Now()
	for _, stage := range stages {
		if _, err := m.Serial.WaitFor(ctx, 0, stage.pattern); err != nil {
			return err
		}
		fmt.Printf("%5.1f s  %s\n", time.Since(begin).Seconds(), stage.name)
	}
	if _, err := os.Stat(d.config); err != nil {
		code, err := m.Serial.WaitFor(ctx, 0, `pairing code: ([0-9A-Z-]{24,})`)
		if err != nil {
			return err
		}
		if err := d.run(ctx, "claim", d.address, "--code", code[1]); err != nil {
			return err
		}
		fmt.Printf("%5.1f s  claimed with the code on its console\n", time.Since(begin).Seconds())
	}
	fmt.Println()
	return d.run(ctx, "daemons", "--address", d.address)
}

// stages are lines on the serial console by which a boot can be followed.
var stages = []struct{ name, pattern string }{
	{"PID 1 runs: firmware, boot loader and kernel are done, the root is verified", `^Dactyl .*: starting`},
	{"the gateway answers", `dactyl .* ready`},
}

func ended(m *vm.Machine) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		m.Wait(context.Background())
		close(c)
	}()
	return c
}

func powerOff(m *vm.Machine, d dactyl) error {
	if m.Ended() {
		return nil
	}
	fmt.Println("\npowering off")
	ctx, cancel := context.WithTimeout(context.Background(), offTimeout)
	defer cancel()
	if err := d.run(ctx, "shutdown", "--yes", "--address", d.address); err != nil {
		return fmt.Errorf("the machine does not power off, pulling the plug: %w", err)
	}
	if err := m.Wait(ctx); err != nil {
		return fmt.Errorf("pulling the plug: %w", err)
	}
	return nil
}

// dactyl is the dactyl command, with a store of its own beside the machine.
type dactyl struct{ address, config string }

func (d dactyl) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Env = append(os.Environ(), "DACTYL_CONFIG="+d.config)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// Ctrl-C is for this program; the command ends by its context.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("dactyl %s: %w", args[0], err)
	}
	return nil
}

func (d dactyl) hints() {
	config, err := filepath.Abs(d.config)
	if err != nil {
		config = d.config
	}
	fmt.Printf(`
The machine is up. In another terminal:

  export DACTYL_CONFIG=%s DACTYL_ADDRESS=%s
  out/dactyl network addresses
  out/dactyl storage disks
  out/dactyl logs networkd -f
  out/dactyl graph
  out/dactyl restart networkd
  out/dactyl --help

Ctrl-C powers it off.
`, config, d.address)
}
