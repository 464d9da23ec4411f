// Package alone runs one daemon by itself, as PID 1 would: the program as the image
// has it, in a root of its own, as its own user, with the descriptors and the rights of
// its daemon.toml, sealed. It is for what a test must do to a single daemon and to
// nobody else: kill it a hundred times, fill its disk, measure it.
//
// What PID 1 adds is missing: namespaces, cgroup limits, other daemons. It needs root.
package alone

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
)

// patience is how long a daemon may take to become ready or to end.
const patience = 20 * time.Second

// Daemon is one daemon. Its sockets stay open while it is started again, as PID 1's do.
type Daemon struct {
	Root  string    // its root directory
	Peer  *ipc.Peer // a caller who may call every method that Prepare was told
	Ready string    // what the last process said when it was ready

	spec    abi.Spec
	kept    []*os.File        // listening sockets, in the order of spec.Descriptors
	address map[string]string // of the network sockets, by name

	cmd    *exec.Cmd
	notify *os.File
	log    buffer
	ended  chan struct{}
	result error
}

// Build compiles the package of a daemon as the image has it, into dir.
func Build(ctx context.Context, folder, dir string) (program string, err error) {
	program = filepath.Join(dir, filepath.Base(folder))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", manifest.Tags("production"), "-ldflags", "-s -w", "-o", program, "./"+folder)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", folder, err, out)
	}
	return program, nil
}

// Prepare makes the daemon's root in dir, which must be empty, and its sockets. m is its
// daemon.toml; service and methods are what Peer may call. Network sockets are bound
// to free ports of 127.0.0.1.
func Prepare(dir, program string, m abi.Daemon, service string, methods []string) (*Daemon, error) {
	short := m.Services[0]
	d := &Daemon{Root: dir, address: map[string]string{}, spec: abi.Spec{Daemon: m, Mode: abi.Test, Version: "test"}}
	d.spec.Callers = []abi.Caller{{Name: "test", Service: short, Full: service, Methods: methods}}
	for path, mode := range folders(m) {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, mode), os.Chown(path, int(m.User), int(m.User))); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, m.Exec), text, 0o755)); err != nil {
		return nil, err
	}
	door, err := net.Listen("unix", filepath.Join(dir, "tmp/door"))
	if err != nil {
		return nil, err
	}
	if err := d.keep(door, abi.Descriptor{Kind: abi.IPCSocket, Name: "test", Service: short}); err != nil {
		return nil, err
	}
	for _, l := range m.Listen {
		socket, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		name := l.Network + ":" + strings.TrimPrefix(l.Address, ":")
		d.address[name] = socket.Addr().String()
		if err := d.keep(socket, abi.Descriptor{Kind: abi.NetworkSocket, Name: name}); err != nil {
			return nil, err
		}
	}
	d.Peer = ipc.NewPeer(short, filepath.Join(dir, "tmp/door"))
	return d, nil
}

// Load returns the daemon called name as the manifests of the repository at root say.
func Load(ctx context.Context, root, name string) (abi.Daemon, error) {
	b, err := manifest.Read(ctx, root, string(abi.Production))
	if err != nil {
		return abi.Daemon{}, err
	}
	for _, d := range b.System("test", 0).Daemons {
		if d.Name == name {
			return d, nil
		}
	}
	return abi.Daemon{}, fmt.Errorf("no daemon is called %s", name)
}

// folders are what the daemon's root has, with their modes.
func folders(m abi.Daemon) map[string]os.FileMode {
	all := map[string]os.FileMode{filepath.Dir(m.Exec): 0o755, "/dev": 0o755, "/tmp": 0o755}
	for _, path := range m.Write {
		all[path] = 0o700
	}
	for _, giver := range m.From {
		all[filepath.Join(abi.ShareDir, giver, m.Name)] = 0o755
	}
	return all
}

func (d *Daemon) keep(l net.Listener, what abi.Descriptor) error {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	defer l.Close()
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return err
	}
	d.kept = append(d.kept, f)
	d.spec.Descriptors = append(d.spec.Descriptors, what)
	return nil
}

// Share is where giver puts files for the daemon.
func (d *Daemon) Share(giver string) string {
	return filepath.Join(d.Root, abi.ShareDir, giver, d.spec.Name)
}

// Address is that of the network socket that [listen] calls name.
func (d *Daemon) Address(name string) string { return d.address[name] }

// Start starts a process and returns when it is ready.
func (d *Daemon) Start() error {
	spec, err := json.Marshal(d.spec)
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	d.log.reset()
	d.notify, d.ended = read, make(chan struct{})
	d.cmd = &exec.Cmd{
		Path: d.spec.Exec, Args: []string{d.spec.Exec}, Dir: "/", Env: []string{abi.SpecEnv + "=" + string(spec)},
		ExtraFiles: append([]*os.File{write}, d.kept...), Stderr: &d.log,
		SysProcAttr: &syscall.SysProcAttr{Chroot: d.Root, Credential: &syscall.Credential{Uid: d.spec.User, Gid: d.spec.User}, Pdeathsig: syscall.SIGKILL},
	}
	err = d.cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		return fmt.Errorf("start %s: %w", d.spec.Name, err)
	}
	go func() {
		d.result = d.cmd.Wait()
		close(d.ended)
	}()
	ready := make(chan error, 1)
	lines := bufio.NewReader(read)
	go func() {
		line, err := lines.ReadString('\n')
		d.Ready = strings.TrimSpace(line)
		ready <- err
		for err == nil { // signs of life
			_, err = lines.ReadString('\n')
		}
		read.Close()
	}()
	select {
	case err = <-ready:
	case <-time.After(patience):
		err = errors.New("it is not ready")
	}
	if err != nil {
		d.Kill()
		return fmt.Errorf("start %s: %w\n%s", d.spec.Name, err, d.Log())
	}
	return nil
}

// Ended is closed when the process has ended.
func (d *Daemon) Ended() <-chan struct{} { return d.ended }

// PID is that of the process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Log is what the process has written.
func (d *Daemon) Log() string { return d.log.String() }

// Kill kills the process and waits for its end.
func (d *Daemon) Kill() {
	d.cmd.Process.Kill()
	<-d.ended
}

// Stop asks the process to end and returns its exit code.
func (d *Daemon) Stop() (int, error) {
	d.cmd.Process.Signal(syscall.SIGTERM)
	return d.Wait()
}

// Wait returns the exit code of a process that ends by itself.
func (d *Daemon) Wait() (int, error) {
	select {
	case <-d.ended:
		return d.cmd.ProcessState.ExitCode(), nil
	case <-time.After(patience):
		d.Kill()
		return 0, fmt.Errorf("%s did not end within %v\n%s", d.spec.Name, patience, d.Log())
	}
}

// Close kills the process, if there is one, and closes the sockets.
func (d *Daemon) Close() {
	if d.cmd != nil && d.cmd.Process != nil {
		d.Kill()
	}
	d.Peer.Close()
	for _, f := range d.kept {
		f.Close()
	}
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *buffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}
