package kit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/daemons/kit/footprint"
	"github.com/dactyl-os/dactyl/ipc"
)

// Daemon is what setup gets to work with.
type Daemon struct {
	Spec abi.Spec
	Log  *slog.Logger
	IPC  ipc.Registrar // where setup registers the services of [provides]

	server    *ipc.Server
	calls     []served
	listeners map[string]net.Listener
	pipes     []LogPipe

	jobs    []job
	alive   []func()
	stops   []func(context.Context)
	failed  chan error // of the first job or listener that ended with one
	running sync.WaitGroup

	started atomic.Bool // it has given its first sign of life
	quiet   *time.Timer // fires when nothing has happened for a moment
}

// served is one socket with the caller it belongs to.
type served struct {
	listener net.Listener
	caller   ipc.Caller
}

// LogPipe is the reading end of the log of the daemon Name ("init": PID 1's own).
type LogPipe struct {
	Name string
	File *os.File
}

type job struct {
	name string
	run  func(context.Context) error
}

// newDaemon takes over the descriptors that spec names.
func newDaemon(spec abi.Spec, log *slog.Logger) (*Daemon, error) {
	d := &Daemon{Spec: spec, Log: log, failed: make(chan error, 1), listeners: map[string]net.Listener{}, quiet: time.NewTimer(quietFor)}
	d.quiet.Stop()
	d.server = ipc.NewServer(func(caller, method string) { log.Warn("call refused", "caller", caller, "method", method) })
	d.server.Told(d.Worked)
	d.IPC = d.server
	syscall.CloseOnExec(abi.NotifyFD) // a program that setup starts does not speak for the daemon
	for i, desc := range spec.Descriptors {
		syscall.CloseOnExec(abi.FirstFD + i)
		if err := d.take(abi.FirstFD+i, desc); err != nil {
			return nil, fmt.Errorf("descriptor %d, %s %s: %w", abi.FirstFD+i, desc.Kind, desc.Name, err)
		}
	}
	return d, nil
}

func (d *Daemon) take(fd int, desc abi.Descriptor) error {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), desc.Name)
	if desc.Kind == abi.LogPipe {
		d.pipes = append(d.pipes, LogPipe{desc.Name, f})
		return nil
	}
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	f.Close() // l has a copy
	switch desc.Kind {
	case abi.IPCSocket:
		d.calls = append(d.calls, served{l, callerOf(d.Spec.Callers, desc)})
	case abi.NetworkSocket:
		d.listeners[desc.Name] = l
	default:
		return errors.New("unknown kind")
	}
	return nil
}

// callerOf returns what the manifests allow the caller whose socket desc is.
func callerOf(all []abi.Caller, desc abi.Descriptor) ipc.Caller {
	c := ipc.Caller{Name: desc.Name, Methods: map[string][]string{}}
	for _, a := range all {
		if a.Name == desc.Name && a.Service == desc.Service {
			c.Methods[a.Full] = a.Methods
		}
	}
	return c
}

// Peer returns a connection to a service that [calls] names. It connects when
// first used; use it after setup, unless setup really cannot do without.
func (d *Daemon) Peer(service string) ipc.Conn {
	return ipc.Told(ipc.NewPeer(service, filepath.Join(abi.SocketDir, service)), d.Worked)
}

// Go starts f once the daemon is sealed. Its context ends on SIGTERM. If f
// returns an error and the context has not ended, the daemon ends with it:
// name says in the log whose error it is.
func (d *Daemon) Go(name string, f func(context.Context) error) {
	d.jobs = append(d.jobs, job{name, f})
}

// Listener returns a socket of [listen] by its name there, "tcp:7400".
func (d *Daemon) Listener(name string) (net.Listener, error) {
	l, ok := d.listeners[name]
	if !ok {
		return nil, Misconfigured(fmt.Errorf("no inherited socket %s: [listen] of daemon.toml does not name it", name))
	}
	return l, nil
}

// LogPipes returns the logs of all daemons, to the one that has logs in its daemon.toml.
func (d *Daemon) LogPipes() []LogPipe { return d.pipes }

// OnBeat has f called before each sign of life. If f hangs, the signs stop and
// PID 1 starts the daemon anew: take the lock there that everything needs.
func (d *Daemon) OnBeat(f func()) { d.alive = append(d.alive, f) }

// OnStop has f called after SIGTERM, while calls in flight are being answered.
// Its context ends when the process must.
func (d *Daemon) OnStop(f func(context.Context)) { d.stops = append(d.stops, f) }

// serve accepts calls and starts the jobs.
func (d *Daemon) serve(ctx context.Context) error {
	for _, c := range d.calls {
		if err := d.server.Listen(c.listener, c.caller, d.fail); err != nil {
			return err
		}
	}
	for _, j := range d.jobs {
		d.running.Go(func() {
			if err := j.run(ctx); err != nil && ctx.Err() == nil {
				d.fail(fmt.Errorf("%s: %w", j.name, err))
			}
		})
	}
	return nil
}

func (d *Daemon) fail(err error) {
	select {
	case d.failed <- err:
	default: // the first one has been told
	}
}

// beat gives signs of life until SIGTERM (nil) or the first failure, and makes the
// process small whenever it rests.
func (d *Daemon) beat(ctx context.Context) error {
	tick := time.NewTicker(abi.WatchdogInterval)
	defer tick.Stop()
	var keeper footprint.Keeper
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.failed:
			return err
		case <-d.quiet.C:
			keeper.Shrink()
			continue
		case <-tick.C:
		}
		for _, f := range d.alive {
			f()
		}
		if err := notify(""); err != nil && err != syscall.EAGAIN {
			return fmt.Errorf("give PID 1 a sign of life: %w", err)
		}
		if n++; n%shrinkBeats == 1 {
			keeper.Shrink()
		} else {
			footprint.DropProgram()
		}
		d.started.Store(true)
	}
}

// shrinkBeats is how many signs of life there are between two moments at which a daemon
// that never rests is made small.
const shrinkBeats = 20

// quietFor is how long nothing happens in a daemon that rests: longer than a caller
// takes from one call to its next.
const quietFor = 300 * time.Millisecond

// Worked tells that the daemon has just done something, and holds pages that it will not
// want for a while. Calls, its own and those of others, tell by themselves.
func (d *Daemon) Worked() {
	if d.started.Load() { // while all daemons start, others need the processor more
		d.quiet.Reset(quietFor)
	}
}

// finish answers what has been asked and waits for the jobs to end.
func (d *Daemon) finish() error {
	timeout := drainTimeout(d.Spec.Limits)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var all sync.WaitGroup
	for _, f := range d.stops {
		all.Go(func() { f(ctx) })
	}
	err := d.server.Drain(ctx)
	ended := make(chan struct{})
	go func() { all.Wait(); d.running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("jobs still run %v after the end began", timeout))
	}
	if err != nil {
		d.Log.Warn("not everything was finished", "err", err)
	}
	return nil
}
