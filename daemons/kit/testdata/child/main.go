// Command child is the daemon that kit's tests start; KIT_CHILD says which.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/daemons/kit"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "tool" {
		tool()
		return
	}
	kit.Main(children[os.Getenv("KIT_CHILD")])
}

var children = map[string]func(context.Context, *kit.Daemon) error{
	"serves": servesSetup,
	"abuses": abusesSetup,
	"files":  filesSetup,
	"mounts": mountsSetup,
	"starts": startsSetup,
	"answers": func(_ context.Context, d *kit.Daemon) error {
		kube.Register(d.IPC, kubeServer{asked: func() {}})
		return nil
	},
	"wastes": func(_ context.Context, d *kit.Daemon) error {
		kube.Register(d.IPC, kubeServer{asked: func() {
			all := make([][]byte, 16)
			for i := range all {
				all[i] = make([]byte, 1<<20)
				for j := range all[i] {
					all[i][j] = 1
				}
			}
			d.Log.Info("used", "bytes", len(all)*len(all[0]))
		}})
		return nil
	},
	"misconfigured": func(context.Context, *kit.Daemon) error { return kit.Misconfigured(errors.New("no such disk")) },
	"unwanted": func(context.Context, *kit.Daemon) error {
		return fmt.Errorf("look for a screen: %w", kit.Unwanted(errors.New("none")))
	},
	"fails": func(_ context.Context, d *kit.Daemon) error {
		d.Go("watch nothing", func(context.Context) error { return errors.New("it broke") })
		return nil
	},
}

// kubeServer calls asked before it answers; no test calls its other methods.
type kubeServer struct {
	kube.Server
	asked func()
}

func (s kubeServer) GetStatus(context.Context, *kube.GetStatusRequest) (*kube.GetStatusResponse, error) {
	s.asked()
	return &kube.GetStatusResponse{Message: "served"}, nil
}

func servesSetup(ctx context.Context, d *kit.Daemon) error {
	// The first answer is held back until the process has been told to end.
	first := sync.OnceFunc(func() { d.Log.Info("asked"); <-ctx.Done() })
	kube.Register(d.IPC, kubeServer{asked: first})
	d.OnBeat(func() { d.Log.Info("alive") })
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

// filesSetup tries, once sealed, what Landlock decides, and logs what came of it.
func filesSetup(_ context.Context, d *kit.Daemon) error {
	own := d.Spec.Write[0]
	d.Go("try files", func(context.Context) error {
		for _, try := range []struct {
			what string
			do   func() error
		}{
			{"write in its own", func() error { return os.WriteFile(own+"/new", []byte("x"), 0o600) }},
			{"rename in its own", func() error { return os.Rename(own+"/new", own+"/final") }},
			{"make a folder in its own", func() error { return os.MkdirAll(own+"/a/b", 0o700) }},
			{"rename between its folders", func() error { return os.Rename(own+"/final", own+"/a/b/final") }},
			{"remove in its own", func() error { return os.RemoveAll(own + "/a") }},
			{"read elsewhere", func() error { _, err := os.ReadFile("/proc/self/stat"); return err }},
			{"write elsewhere", func() error { return os.WriteFile(own+"/../other", nil, 0o600) }},
			{"link out of its own", func() error { return os.Link(own+"/../there", own+"/here") }},
			{"connect to an abstract socket", func() error {
				_, err := net.Dial("unix", "@"+d.Spec.Version)
				return err
			}},
			{"dial", func() error {
				c, err := net.Dial("tcp", d.Spec.Read[0])
				if err == nil {
					c.Close()
				}
				return err
			}},
			{"listen", func() error { _, err := net.Listen("tcp", "127.0.0.1:7411"); return err }},
		} {
			err := try.do()
			refused := errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EXDEV) // Landlock's answer to a link that would gain rights
			if err == nil || refused {
				d.Log.Info("tried", "what", try.what, "refused", refused)
			} else {
				d.Log.Error("tried", "what", try.what, "err", err)
			}
		}
		return errors.New("all tried")
	})
	return nil
}

func mountsSetup(_ context.Context, d *kit.Daemon) error {
	d.Go("mount", func(context.Context) error {
		if err := unix.Mount("none", d.Spec.Mount[0], "tmpfs", 0, ""); err != nil {
			return err
		}
		d.Log.Info("mounted")
		return nil
	})
	return nil
}

// startsSetup starts a program before the seal, as storaged does, and tries to after it.
func startsSetup(_ context.Context, d *kit.Daemon) error {
	start := func() ([]byte, error) {
		c := exec.Command("/proc/self/exe", "tool")
		c.Env = []string{}
		return c.CombinedOutput()
	}
	said, err := start()
	d.Log.Info("before the seal", "tool", string(said), "err", err)
	d.Go("start again", func(context.Context) error {
		_, err := start()
		d.Log.Info("sealed", "eperm", errors.Is(err, fs.ErrPermission))
		return errors.New("all tried")
	})
	return nil
}

// tool is a program that a daemon starts. It prints which of the daemon's descriptors it
// has: the standard ones, that of PID 1, and those of its spec. Go's runtime closes its own on exec.
func tool() {
	for fd := range abi.FirstFD + 1 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fmt.Print(fd, ",")
		}
	}
}
