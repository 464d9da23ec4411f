package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc/dev"
	pb "github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/probe"
)

func TestReplaceAndRestore(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{Name: "echo"}))
	client, machine := dev.NewClient(w.peer("dev")), pb.NewClient(w.peer("machine"))
	first := w.report("echo")
	second := buildDaemon(t, "-X main.version=2")

	// Somebody calls all the time: nobody of them may notice.
	stop, noticed := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				close(noticed)
				return
			default:
			}
			if _, err := w.tell("echo", "version"); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				select {
				case noticed <- err:
				default:
				}
			}
		}
	}()

	pid := w.replace(t, client, "echo", second, codes.OK)
	if v := w.version("echo"); v != "2" {
		t.Errorf("version %s after the replacement", v)
	}
	d := w.daemon(machine, "echo")
	if !d.Replaced || d.Pid != pid || d.State != up {
		t.Errorf("after the replacement: %v", d)
	}
	w.replace(t, client, "echo", buildDaemon(t, "-X main.version=broken"), codes.Aborted)
	if v := w.version("echo"); v != "2" {
		t.Errorf("version %s after one that does not start", v)
	}
	if _, err := client.RestoreDaemon(context.Background(), &dev.RestoreDaemonRequest{Name: "echo"}); err != nil {
		t.Fatal(err)
	}
	if v := w.version("echo"); v != first.Version || w.daemon(machine, "echo").Replaced {
		t.Errorf("version %s after restoring", v)
	}
	if left, _ := filepath.Glob(w.path("/run/replaced/*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	close(stop)
	if err := <-noticed; err != nil {
		t.Errorf("a caller noticed: %v", err)
	}
}

func TestReplaceRefusesWhatIsNoProgram(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{Name: "echo"}))
	client := dev.NewClient(w.peer("dev"))
	w.report("echo")
	w.replace(t, client, "nobody", []byte("\x7fELF"), codes.NotFound)
	w.replace(t, client, "../../init", []byte("\x7fELF"), codes.NotFound)
	w.replace(t, client, "echo", []byte("#!/bin/sh\n"), codes.InvalidArgument)
	w.replace(t, client, "echo", nil, codes.InvalidArgument)
	w.replace(t, client, "echo", []byte("\x7fELF and no more"), codes.Aborted)
	u, err := client.ReplaceDaemon(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Send(&dev.ReplaceDaemonRequest{Name: "echo", Sha256: make([]byte, 32), Chunk: []byte("\x7fELF")}); err != nil {
		t.Fatal(err)
	}
	if _, err := u.CloseAndReceive(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("wrong digest: %v", err)
	}
	if v := w.version("echo"); v != "1" {
		t.Errorf("version %s", v)
	}
}

func (w *world) replace(t *testing.T, c dev.Client, name string, program []byte, want codes.Code) int32 {
	t.Helper()
	u, err := c.ReplaceDaemon(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(program)
	message := &dev.ReplaceDaemonRequest{Name: name, Sha256: sum[:]}
	for {
		n := min(len(program), 1<<20)
		message.Chunk, program = program[:n], program[n:]
		if err := u.Send(message); err != nil {
			break // the answer says why
		}
		if message = new(dev.ReplaceDaemonRequest); len(program) == 0 {
			break
		}
	}
	answer, err := u.CloseAndReceive()
	if status.Code(err) != want {
		t.Fatalf("replace %s: %v, want %v", name, err, want)
	}
	return answer.GetPid()
}

func (w *world) version(service string) string {
	w.t.Helper()
	text, err := w.tell(service, "version")
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(text)
}

func buildDaemon(t *testing.T, ldflags string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "daemon")
	build(t, out, "./testdata/daemon", "-ldflags", ldflags)
	program, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func TestMisconfiguredDaemonRefusesCallersUntilRestarted(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{Name: "misfit"}, abi.Daemon{Name: "crasher"}, abi.Daemon{Name: "echo", Read: []string{"/etc/none"}}))
	client := pb.NewClient(w.peer("machine"))
	w.eventually("misfit is given up", func() bool { return w.daemon(client, "misfit").State == gaveUp })
	w.refused("misfit")
	restart := func(name string) codes.Code {
		_, err := client.RestartDaemon(context.Background(), &pb.RestartDaemonRequest{Name: name})
		return status.Code(err)
	}
	if code := restart("misfit"); code != codes.Aborted {
		t.Errorf("restart of what cannot start: %v", code)
	}
	if code := restart("nobody"); code != codes.NotFound {
		t.Errorf("restart of nobody: %v", code)
	}
	w.eventually("crasher is made to wait", func() bool { return w.daemon(client, "crasher").State == backoff })
	w.eventually("the reason names the path that is missing", func() bool {
		return strings.Contains(w.daemon(client, "echo").Reason, "/etc/none")
	})
}

func TestListDaemons(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{Name: "echo"}, abi.Daemon{Name: "netty", Capabilities: []string{"NET_ADMIN"}, Network: "host"}))
	client := pb.NewClient(w.peer("machine"))
	for _, name := range []string{"echo", "netty"} {
		w.eventually(name+" is up", func() bool { return w.daemon(client, name).State == up })
	}
	echo, netty := w.daemon(client, "echo"), w.daemon(client, "netty")
	if len(echo.Capabilities)+len(echo.Bounding) != 0 || !echo.NoNewPrivs || echo.Landlock != 6 || echo.MemoryBytes == 0 || echo.ResidentBytes == 0 {
		t.Error(echo)
	}
	for _, name := range namespaceNames {
		if !echo.Namespaces[name] {
			t.Errorf("echo has no %s namespace of its own", name)
		}
		if own := name != "net" && name != "user"; netty.Namespaces[name] != own {
			t.Errorf("netty's %s namespace: own is %v", name, !own)
		}
	}
	if strings.Join(netty.Capabilities, " ") != "NET_ADMIN" || strings.Join(netty.Bounding, " ") != "NET_ADMIN" {
		t.Error(netty)
	}
	brief, err := client.ListDaemons(context.Background(), &pb.ListDaemonsRequest{Brief: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range brief.Daemons {
		if d.Pid == 0 || d.State != up || d.MemoryBytes != 0 || d.Namespaces != nil {
			t.Errorf("in a brief answer: %v", d)
		}
	}
	graph, err := client.GetGraph(context.Background(), &pb.GetGraphRequest{})
	if err != nil || len(graph.Edges) != 5 || graph.Edges[1].Callee != "init" {
		t.Error(graph, err)
	}
	if _, err := client.SetHostname(context.Background(), &pb.SetHostnameRequest{Hostname: "edge-1"}); err != nil {
		t.Error(err)
	}
	version, err := client.GetVersion(context.Background(), &pb.GetVersionRequest{})
	if err != nil || version.Hostname != "edge-1" || version.Mode != "test" || version.Kernel == "" || version.BootId == "" {
		t.Error(version, err)
	}
	_, err = client.Shutdown(context.Background(), &pb.ShutdownRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a method that the manifest does not name: %v", err)
	}
}

func TestGarbageOnTheSocketsOfPID1(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{Name: "echo"}))
	client, prober := pb.NewClient(w.peer("machine")), probe.NewClient(w.peer("probe"))
	w.report("echo")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for seed := range uint64(2) {
		answer, err := prober.AbuseSockets(ctx, &probe.AbuseSocketsRequest{Connections: 200, Bytes: 256 << 10, Seed: seed})
		if err != nil || len(answer.Sockets) != 3 {
			t.Fatal(answer, err)
		}
	}
	if d := w.daemon(client, "echo"); d.State != up || d.Restarts != 0 {
		t.Error(d)
	}
	w.eventually("what the flood left is forgotten", func() bool {
		return procDir("/proc/"+strconv.Itoa(w.pid)).status().kilobytes("VmRSS") < 2*memoryLimit
	})
	t.Logf("resident afterwards: %d KiB, at most %d KiB", procDir("/proc/"+strconv.Itoa(w.pid)).status().kilobytes("VmRSS")>>10, procDir("/proc/"+strconv.Itoa(w.pid)).status().kilobytes("VmHWM")>>10)
}

func TestRebootAnswersAndEndsInOrder(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{Name: "echo"}))
	client := pb.NewClient(w.peer("machine"))
	w.report("echo")
	if _, err := client.Reboot(context.Background(), &pb.RebootRequest{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.gone:
	case <-time.After(20 * time.Second):
		t.Fatal("still there")
	}
}

// Requests that are too large, from many connections, are not kept in PID 1's memory: nothing
// limits it, and the kernel would kill others for it.
func TestMemoryOfPID1(t *testing.T) {
	const connections, size = 40, 4 << 20
	w := startWorld(t, testSystem(abi.Daemon{Name: "echo"}))
	client := pb.NewClient(w.peer("machine"))
	w.report("echo")
	w.daemon(client, "echo") // connects, before the others take all connections that this caller may have
	highest := func() uint64 { return procDir("/proc/" + strconv.Itoa(w.pid)).status().kilobytes("VmHWM") }
	before := highest()
	request := binary.BigEndian.AppendUint32(nil, size)
	request = append(request, 0, 0, 0, 1, 1, 0) // stream 1, a request
	request = append(request, make([]byte, size-1)...)
	for range connections {
		c, err := net.Dial("unix", w.socket("machine"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Write(request) // all but the last byte; or until PID 1 closes one connection too many
	}
	if _, err := client.GetVersion(context.Background(), &pb.GetVersionRequest{}); err != nil {
		t.Error(err)
	}
	if now := highest(); now > before+32<<20 {
		t.Errorf("PID 1's memory was %d MiB before and %d MiB at most", before>>20, now>>20)
	}
}
