package native

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/log"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
	"github.com/dactyl-os/dactyl/test/vm"
)

// Machine is a running PID 1 with its daemons.
type Machine struct {
	API string // address on this host that leads to the gateway

	cmd      *exec.Cmd
	group    *cgroup
	network  int // descriptor of the network namespace
	listener net.Listener
	ended    chan struct{}
	result   error // of PID 1; read after ended is closed
}

// Start starts the staged root in new namespaces; it returns before the daemons
// are up. What init writes to its standard error goes to output. The Machine ends
// with Kill, when it is told to shut down, or with ctx.
func Start(ctx context.Context, root string, output io.Writer) (*Machine, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("native: only root may make namespaces with devices and mounts")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "init")); err != nil {
		return nil, fmt.Errorf("native: not a staged root: %w", err)
	}
	group, err := newCgroup()
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	m := &Machine{group: group, network: -1, ended: make(chan struct{})}
	if err := m.start(ctx, root, output); err != nil {
		return nil, errors.Join(fmt.Errorf("native: %w", err), group.remove())
	}
	if err := m.connect(); err != nil {
		m.Kill()
		return nil, fmt.Errorf("native: %w", err)
	}
	return m, nil
}

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

func (m *Machine) start(ctx context.Context, root string, output io.Writer) error {
	home, err := os.Open(m.group.path)
	if err != nil {
		return err
	}
	defer home.Close()
	first, err := m.group.first()
	if err != nil {
		return err
	}
	defer first.Close()
	m.cmd = exec.CommandContext(ctx, "/proc/self/exe")
	m.cmd.Args = []string{stageName, root}
	m.cmd.Stdout, m.cmd.Stderr = output, output
	m.cmd.ExtraFiles = []*os.File{first} // see leaveCgroup
	m.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL, Setpgid: true,
		UseCgroupFD: true, CgroupFD: int(home.Fd()),
	}
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("start in new namespaces: %w", err)
	}
	go func() {
		m.result = m.cmd.Wait()
		close(m.ended)
	}()
	return nil
}

// connect opens the way in.
func (m *Machine) connect() error {
	var err error
	if m.network, err = unix.Open(fmt.Sprintf("/proc/%d/ns/net", m.cmd.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	if m.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	m.API = m.listener.Addr().String()
	go m.forward(m.listener)
	return nil
}

// Kill ends it without a word and leaves nothing of it.
func (m *Machine) Kill() error {
	err := m.group.kill()
	m.cmd.Process.Kill()
	<-m.ended
	if m.listener != nil {
		m.listener.Close()
	}
	if m.network >= 0 {
		unix.Close(m.network)
	}
	return errors.Join(err, m.group.remove())
}

// Wait waits until PID 1 has ended, as it does when told to shut down.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("PID 1 still runs: %w", ctx.Err())
	case <-m.ended:
		return m.result
	}
}

// Peer calls a service as one of the daemons that may: on that daemon's own
// socket, which says who calls.
func (m *Machine) Peer(caller, service string) *ipc.Peer {
	return ipc.NewPeer(service, fmt.Sprintf("/proc/%d/root%s/%s/%s", m.cmd.Process.Pid, abi.SocketDir, caller, service))
}

// Processes returns the pids, as this host counts them, of a daemon's processes.
func (m *Machine) Processes(daemon string) ([]int, error) { return m.group.processes(daemon) }

// ProcessorTime is what PID 1 and all that it has started have used so far, of all processors.
func (m *Machine) ProcessorTime() (time.Duration, error) { return m.group.processorTime() }

// Dial is vm.Dial without the way through a port of the host's.
func (m *Machine) Dial(id vm.Identity) (*vm.Conn, error) {
	pool := x509.NewCertPool()
	pool.AddCert(id.Authority)
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
	if id.Certificate != nil {
		config.Certificates = []tls.Certificate{*id.Certificate}
	}
	cc, err := grpc.NewClient("passthrough:///"+apiAddress,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return m.dial(ctx, apiAddress) }))
	if err != nil {
		return nil, err
	}
	return &vm.Conn{CC: cc}, nil
}

// Claim reads the pairing code as consoled does, having no console, and makes
// the caller the first admin.
func (m *Machine) Claim(ctx context.Context) (vm.Identity, error) {
	code, err := m.pairingCode(ctx)
	if err != nil {
		return vm.Identity{}, err
	}
	for {
		id, err := vm.Claim(ctx, m.API, code)
		if err == nil || !m.pause(ctx) {
			return id, err
		}
	}
}

func (m *Machine) pairingCode(ctx context.Context) (string, error) {
	peer := m.Peer("consoled", "trust")
	defer peer.Close()
	for {
		// Before PID 1 has made the socket, there is none.
		p, err := trust.NewClient(peer).GetPairing(ctx, &trust.GetPairingRequest{})
		if err == nil {
			return p.Code, nil
		}
		if !m.pause(ctx) {
			return "", fmt.Errorf("get the pairing code: %w", errors.Join(err, m.whyNot()))
		}
	}
}

// Log returns what logd has of a daemon, for messages.
func (m *Machine) Log(ctx context.Context, daemon string) string {
	peer := m.Peer("routerd", "log")
	defer peer.Close()
	lines, err := log.NewClient(peer).ReadLog(ctx, &log.ReadLogRequest{Daemon: daemon})
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for {
		l, err := lines.Recv()
		if err != nil {
			return b.String()
		}
		fmt.Fprintln(&b, l.Text)
	}
}

// WaitUp waits until every daemon does what it does here, which for consoled is
// to have nothing to do, and for what nobody requests to wait.
func (m *Machine) WaitUp(ctx context.Context, admin *vm.Conn) ([]*machine.Daemon, error) {
	for {
		list, err := machine.NewClient(admin).ListDaemons(ctx, &machine.ListDaemonsRequest{})
		if err != nil {
			return nil, errors.Join(err, m.whyNot())
		}
		var not []string
		for _, d := range list.Daemons {
			if d.State != machine.DaemonState_DAEMON_STATE_UP && (d.Name != "consoled" || d.State != machine.DaemonState_DAEMON_STATE_DONE) && (!d.OnRequest || d.State != machine.DaemonState_DAEMON_STATE_IDLE) {
				not = append(not, fmt.Sprintf("%s: %s %s", d.Name, words.Of(d.State), d.Reason))
			}
		}
		if len(not) == 0 {
			return list.Daemons, nil
		}
		if !m.pause(ctx) {
			return nil, fmt.Errorf("not up: %s", strings.Join(not, "; "))
		}
	}
}

// pause waits for the time between two looks at a condition; it returns false
// when there is nothing to wait for any more.
func (m *Machine) pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-m.ended:
		return false
	case <-time.After(5 * time.Millisecond):
		return true
	}
}

func (m *Machine) whyNot() error {
	select {
	case <-m.ended:
		return fmt.Errorf("PID 1 has ended: %w", m.result)
	default:
		return nil
	}
}
