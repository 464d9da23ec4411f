package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/storage"
)

// The real program, sealed, loads an image; it is killed in the middle of the next,
// and the one that is started then leaves nothing of that.
func TestSealed(t *testing.T) {
	p := startContainerd(t)
	binary := filepath.Join(p.dir, "podd")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Mkdir(filepath.Join(p.dir, "ipc"), 0o755); err != nil {
		t.Fatal(err)
	}
	below, err := net.Listen("unix", filepath.Join(p.dir, "ipc/storage"))
	if err != nil {
		t.Fatal(err)
	}
	storaged := ipc.NewServer(nil)
	storage.Register(storaged, roomy())
	if err := storaged.Listen(below, ipc.Caller{Name: "podd", Methods: map[string][]string{storage.Service: {"ListMounts"}}}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { storaged.Drain(t.Context()) })
	above, err := net.Listen("unix", filepath.Join(p.dir, "pods"))
	if err != nil {
		t.Fatal(err)
	}
	defer above.Close()
	peer := ipc.NewPeer("pods", above.Addr().String())
	defer peer.Close()
	client := pods.NewClient(peer)

	first := p.launch(binary, above.(*net.UnixListener))
	archive := small("sealed").docker("sealed")
	if _, err := upload1(t, client, "", archive); err != nil {
		t.Fatal(err)
	}
	before := p.inventory()
	up, err := client.LoadImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	up.Send(&pods.LoadImageRequest{Header: &pods.LoadImageHeader{}})
	other := small("other").docker("other")
	up.Send(&pods.LoadImageRequest{Chunk: other[:len(other)/2]})
	p.until("the upload has begun", func() error {
		if p.inventory() == before {
			return io.EOF
		}
		return nil
	})
	first.Process.Kill()
	first.Wait()
	if _, err := up.CloseAndReceive(); status.Code(err) != codes.Unavailable {
		t.Errorf("%v, want Unavailable", err)
	}
	p.launch(binary, above.(*net.UnixListener))
	p.until("what the killed one has left is gone", func() error {
		if after := p.inventory(); after != before {
			return status.Error(codes.Internal, after)
		}
		return nil
	})
	if _, err := upload1(t, client, "", archive); err != nil {
		t.Error(err)
	}
}

// launch starts podd with what it sees of the machine, and waits until it is ready.
func (p *peer) launch(binary string, listening *net.UnixListener) *exec.Cmd {
	p.t.Helper()
	socket, err := listening.File()
	if err != nil {
		p.t.Fatal(err)
	}
	defer socket.Close()
	ready, notify, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	defer notify.Close()
	spec, err := json.Marshal(abi.Spec{
		Daemon: abi.Daemon{Name: "podd", Provider: abi.Provider{Callers: []abi.Caller{
			{Name: "test", Service: "pods", Full: pods.Service, Methods: []string{"LoadImage"}},
		}}},
		Descriptors: []abi.Descriptor{{Kind: abi.IPCSocket, Name: "test", Service: "pods"}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", `
		mount -t tmpfs none /run
		mkdir /run/containerd /run/ipc
		mount --bind "$0/state" /run/containerd
		mount --bind "$0/ipc" /run/ipc
		exec "$1"`, p.dir, binary)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), abi.SpecEnv + "=" + string(spec)}
	cmd.ExtraFiles = []*os.File{notify, socket} // 3 and 4
	var log bytes.Buffer
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		ready.Close()
		cmd.Process.Kill()
		cmd.Wait()
		if p.t.Failed() {
			p.t.Logf("podd's log:\n%s", log.String())
		}
	})
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		p.t.Fatalf("podd is not ready: %v\n%s", err, log.String())
	}
	return cmd
}
