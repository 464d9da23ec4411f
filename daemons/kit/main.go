package kit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// drainTimeout is how long a daemon may take to finish: PID 1's limit, less the time
// for a last line in the log.
func drainTimeout(l abi.Limits) time.Duration {
	limit := abi.StopTimeout
	if l.StopSeconds > 0 {
		limit = time.Duration(l.StopSeconds) * time.Second
	}
	return limit - 500*time.Millisecond
}

// Main runs a daemon and does not return. setup must be quick: callers wait for it.
func Main(setup func(ctx context.Context, d *Daemon) error) {
	log := newLogger(syscall.Stderr)
	err := run(log, setup)
	if err != nil {
		log.Error("end", "err", err)
	}
	os.Exit(exitCode(err))
}

func run(log *slog.Logger, setup func(context.Context, *Daemon) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	spec, err := readSpec()
	if err != nil {
		return Misconfigured(err)
	}
	tune(spec.Limits)
	d, err := newDaemon(spec, log)
	if err != nil {
		return Misconfigured(err)
	}

	if err := setup(ctx, d); err != nil {
		return err
	}
	sealed, err := seal(&spec)
	if err != nil {
		return Misconfigured(fmt.Errorf("seal: %w", err))
	}
	if sealed.landlock == 0 {
		log.Warn("this kernel has no Landlock")
	}
	if err := notify(sealed.String()); err != nil {
		return fmt.Errorf("tell PID 1 that all is ready: %w", err)
	}
	// Jobs end with the daemon, whatever ends it.
	ctx, end := context.WithCancel(ctx)
	defer end()
	if err := d.serve(ctx); err != nil {
		return err
	}
	err = d.beat(ctx)
	end()
	return errors.Join(err, d.finish())
}

func readSpec() (abi.Spec, error) {
	var s abi.Spec
	text, ok := os.LookupEnv(abi.SpecEnv)
	if !ok {
		return s, fmt.Errorf("%s is not set: only PID 1 starts this program", abi.SpecEnv)
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("read %s: %w", abi.SpecEnv, err)
	}
	return s, nil
}

// maxProcs is how many threads of a daemon run Go code at a time: a second one costs
// 0.1 to 0.5 MiB of stacks, caches and half-filled spans, and no daemon computes.
const maxProcs = 1

// gcPercent keeps a heap of a few MiB small at the price of collecting twice as
// often, which for such a heap is well under a millisecond.
const gcPercent = 50

// tune fits the runtime to a small process.
func tune(l abi.Limits) {
	runtime.GOMAXPROCS(maxProcs)
	debug.SetGCPercent(gcPercent)
	if l.MemoryBytes > 0 {
		debug.SetMemoryLimit(l.MemoryBytes / 10 * 8)
	}
}

// notify writes one line to PID 1.
func notify(line string) error {
	for {
		_, err := syscall.Write(abi.NotifyFD, []byte(line+"\n"))
		if err != syscall.EINTR {
			return err
		}
	}
}

// An exitError is an error that decides how the process exits.
type exitError struct {
	err  error
	code int
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Misconfigured says that starting the daemon again cannot help.
func Misconfigured(err error) error { return &exitError{err, abi.ExitMisconfigured} }

// Unwanted says that this machine has nothing for the daemon to do.
func Unwanted(err error) error { return &exitError{err, abi.ExitUnwanted} }

func exitCode(err error) int {
	if err == nil {
		return abi.ExitDone
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return abi.ExitTemporary
}
