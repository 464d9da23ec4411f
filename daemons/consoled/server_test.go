package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// world is all peers at once. The methods that consoled may not call are nil.
type world struct {
	machineServer
	networkServer
	trustServer
	kubeServer
	noKube bool
}

type (
	machineServer = machine.Server
	networkServer = network.Server
	trustServer   = trust.Server
	kubeServer    = kube.Server
)

func (w *world) GetVersion(context.Context, *machine.GetVersionRequest) (*machine.Version, error) {
	return &machine.Version{Version: "0.1.0", Kernel: "6.12.41", Mode: "test", Hostname: "edge"}, nil
}

func (w *world) ListDaemons(context.Context, *machine.ListDaemonsRequest) (*machine.ListDaemonsResponse, error) {
	return &machine.ListDaemonsResponse{Daemons: []*machine.Daemon{{Name: "logd", State: machine.DaemonState_DAEMON_STATE_UP}}}, nil
}

func (w *world) ListAddresses(context.Context, *network.ListAddressesRequest) (*network.ListAddressesResponse, error) {
	return &network.ListAddressesResponse{Addresses: []*network.Address{{Link: "lo", Address: "127.0.0.1/8"}, {Link: "lo", Address: "192.0.0.8/32", Scope: "host"}, {Link: "cni0", Address: "10.244.0.1/24", Origin: "other"}, {Link: "eth0", Address: "10.0.2.15/24"}}}, nil
}

func (w *world) GetPairing(context.Context, *trust.GetPairingRequest) (*trust.Pairing, error) {
	return &trust.Pairing{Code: "ABCD-EFGH", Fingerprint: "5e88"}, nil
}

func (w *world) GetStatus(context.Context, *kube.GetStatusRequest) (*kube.GetStatusResponse, error) {
	if w.noKube {
		return nil, status.Error(codes.Unavailable, "starting")
	}
	return &kube.GetStatusResponse{State: kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED, Message: "no cluster configured"}, nil
}

var methods = map[string][]string{
	machine.Service: {"GetVersion", "ListDaemons"},
	network.Service: {"ListAddresses"},
	trust.Service:   {"GetPairing"},
	kube.Service:    {"GetStatus"},
}

// paper is a terminal that can be read.
type paper struct {
	mu      sync.Mutex // guards text
	text    bytes.Buffer
	written chan struct{} // gets one after each text, if there is room
}

func newPaper() *paper { return &paper{written: make(chan struct{}, 1)} }

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	select {
	case p.written <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *paper) waitFor(t *testing.T, want string) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		p.mu.Lock()
		text := p.text.String()
		p.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		select {
		case <-p.written:
		case <-limit:
			t.Fatalf("no %q in\n%s", want, text)
		}
	}
}

func start(t *testing.T, w *world, serial, screen terminal) {
	t.Helper()
	conn := ipctest.Pair(t, methods, func(r ipc.Registrar) {
		machine.Register(r, w)
		network.Register(r, w)
		trust.Register(r, w)
		kube.Register(r, w)
	})
	c := &console{peers: newPeers(func(string) ipc.Conn { return conn }), log: slog.New(slog.DiscardHandler), serial: serial, screen: screen, failing: map[terminal]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.show(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestShowsWhatPeersSay(t *testing.T) {
	serial, screen := newPaper(), newPaper()
	start(t, &world{}, serial, screen)
	serial.waitFor(t, "\nAPI: https://10.0.2.15:7400\npairing code: ABCD-EFGH\nfingerprint: 5e88\nKubernetes: no cluster configured\ndactyl 0.1.0 ready\n")
	screen.waitFor(t, clearScreen+"\n  dactyl 0.1.0 (test), kernel 6.12.41\n  edge\n")
	serial.mu.Lock()
	defer serial.mu.Unlock()
	if strings.Contains(serial.text.String(), "\x1b") {
		t.Error("the serial line got terminal control")
	}
}

// A peer that does not answer is waited for by nobody.
func TestAPeerThatStarts(t *testing.T) {
	serial := newPaper()
	start(t, &world{noKube: true}, serial, nil)
	serial.waitFor(t, "Kubernetes: starting\ndactyl 0.1.0 ready\n")
}

func TestATerminalThatIsNone(t *testing.T) {
	for _, path := range []string{"/dev/null", "/dev/no-such-terminal"} {
		if term, err := openTerminal(path); err == nil || term != nil {
			t.Errorf("%s was taken for a terminal", path)
		}
	}
}

// A line that took nothing once gets the same again.
func TestWhatWasNotShownIsShownLater(t *testing.T) {
	serial := newPaper()
	start(t, &world{}, &jam{terminal: serial}, nil)
	serial.waitFor(t, "\ndactyl 0.1.0 ready\n")
}

// jam is a terminal that refuses its first text.
type jam struct {
	terminal
	gone bool
}

func (j *jam) Write(b []byte) (int, error) {
	if !j.gone {
		j.gone = true
		return 0, errors.New("i/o timeout")
	}
	return j.terminal.Write(b)
}
