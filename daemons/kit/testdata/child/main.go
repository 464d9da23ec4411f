// Command child is the daemon that kit's tests start; KIT_CHILD says which.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"golang.org/x/sys/unix"
)

func main() { kit.Main(children[os.Getenv("KIT_CHILD")]) }

var children = map[string]func(context.Context, *kit.Daemon) error{
	"serves":        servesSetup,
	"abuses":        abusesSetup,
	"misconfigured": func(context.Context, *kit.Daemon) error { return kit.Misconfigured(errors.New("no such disk")) },
	"unwanted": func(context.Context, *kit.Daemon) error {
		return fmt.Errorf("look for a screen: %w", kit.Unwanted(errors.New("none")))
	},
	"fails": func(_ context.Context, d *kit.Daemon) error {
		d.Go("watch nothing", func(context.Context) error { return errors.New("it broke") })
		return nil
	},
}

// kubeServer calls asked before it answers.
type kubeServer struct{ asked func() }

func (s kubeServer) GetStatus(context.Context, *kube.GetStatusRequest) (*kube.GetStatusResponse, error) {
	s.asked()
	return &kube.GetStatusResponse{Message: "served"}, nil
}

func servesSetup(ctx context.Context, d *kit.Daemon) error {
	// The first answer is held back until the process has been told to end.
	first := sync.OnceFunc(func() { d.Log.Info("asked"); <-ctx.Done() })
	kube.Register(d.IPC, kubeServer{first})
	d.OnStop(func(context.Context) { d.Log.Info("stopping") })
	d.Go("wait", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	return nil
}

// abusesSetup tries, once sealed, what no daemon may, and logs what came of it.
func abusesSetup(_ context.Context, d *kit.Daemon) error {
	// Threads that exist before the filter must be under it too.
	tries := make(chan func())
	for range 8 {
		go func() {
			runtime.LockOSThread()
			for f := range tries {
				f()
			}
		}()
	}
	d.Go("abuse", func(context.Context) error {
		page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		for _, a := range []struct {
			name string
			try  func() error
		}{
			{"execve", func() error { return unix.Exec("/proc/self/exe", []string{"x"}, nil) }},
			{"fork", func() error { _, err := os.StartProcess("/proc/self/exe", []string{"x"}, &os.ProcAttr{}); return err }},
			{"socket", func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); return err }},
			{"ptrace", func() error { return unix.PtraceAttach(os.Getppid()) }},
			{"mprotect", func() error { return unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC) }},
			{"kill", func() error { return unix.Kill(os.Getppid(), 0) }},
			{"mount", func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") }},
			{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }},
		} {
			result := make(chan error)
			tries <- func() { result <- a.try() }
			d.Log.Info("tried", "what", a.name, "eperm", errors.Is(<-result, unix.EPERM))
		}
		var more sync.WaitGroup // new threads can still be made
		for range 20 {
			more.Go(func() { runtime.LockOSThread(); unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) })
		}
		more.Wait()
		return errors.New("all tried")
	})
	return nil
}
