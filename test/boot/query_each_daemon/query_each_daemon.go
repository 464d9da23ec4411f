// Scenario query_each_daemon: every method of every service, once as an admin,
// once as a reader, once without a certificate. If it fails, somebody can do
// something that the method's role does not say, or cannot do what it says.
package query_each_daemon

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/test/vm"
)

// adminGets is what an admin's empty request is answered with where that is not
// success: each of these wants to be told more.
var adminGets = map[string]codes.Code{
	"/dactyl.dev.v1.Dev/ReplaceDaemon":         codes.NotFound, // no daemon of that name
	"/dactyl.dev.v1.Dev/RestoreDaemon":         codes.NotFound,
	"/dactyl.log.v1.Log/ReadLog":               codes.NotFound,
	"/dactyl.machine.v1.Machine/RestartDaemon": codes.NotFound,
	"/dactyl.probe.v1.Probe/FillDisk":          codes.NotFound,
	"/dactyl.probe.v1.Probe/ReadFile":          codes.NotFound,
	"/dactyl.probe.v1.Probe/Signal":            codes.NotFound,
	"/dactyl.trust.v1.Trust/Claim":             codes.FailedPrecondition, // is claimed
	"/dactyl.trust.v1.Trust/IssueClient":       codes.InvalidArgument,
	// The machine has no cluster.
	"/dactyl.kube.v1.Kube/GetKubeconfigInfo":       codes.FailedPrecondition,
	"/dactyl.kube.v1.Kube/RestartComponent":        codes.FailedPrecondition,
	"/dactyl.trust.v1.Trust/IssueKubernetesClient": codes.FailedPrecondition,
}

// idle are services whose daemons nobody has asked PID 1 for: that is said at once.
var idle = []string{"etcd", "pods"}

// allowed is what a caller gets who may call.
func allowed(r abi.Route) codes.Code {
	if slices.Contains(idle, r.Service) {
		return codes.Unavailable
	}
	return adminGets[r.Path]
}

// ends are the methods after which there is no machine to ask: they come last.
var ends = []string{"/dactyl.machine.v1.Machine/Reboot", "/dactyl.machine.v1.Machine/Shutdown"}

// Scenario calls Reboot and Shutdown, too: with Config.NoReboot, the machine is off after it.
func Scenario(t *testing.T, r *vm.Running) {
	reader := r.As(auth.Role_ROLE_READER)
	nobody := r.Dial(vm.Identity{Authority: r.Identity.Authority})
	for _, route := range routes(t, r) {
		expect(t, "nobody", nobody, route, refusal(route, "anyone", codes.Unauthenticated, codes.FailedPrecondition))
		readerWant := codes.PermissionDenied
		if route.Role == "reader" || route.Role == "anyone" {
			readerWant = allowed(route)
		}
		expect(t, "reader", reader, route, readerWant)
		if route.Path != ends[0] && route.Path != ends[1] {
			expect(t, "admin", r.Admin, route, allowed(route))
		}
	}
	t.Run("grpcurl", func(t *testing.T) { grpcurl(t, r) })
	// Both at once: the first decides, the second is answered all the same.
	for _, path := range ends {
		expect(t, "admin", r.Admin, abi.Route{Path: path}, codes.OK)
	}
	if err := r.Wait(vm.Context(t)); err != nil {
		t.Errorf("after Reboot: %v", err)
	}
}

func refusal(route abi.Route, open string, refused, answered codes.Code) codes.Code {
	if route.Role == open {
		return answered
	}
	return refused
}

func routes(t *testing.T, r *vm.Running) []abi.Route {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(r.Config.Image), "root", abi.RoutesPath))
	if err != nil {
		t.Fatal(err)
	}
	var table abi.Routes
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Routes) < 20 {
		t.Fatalf("only %d routes", len(table.Routes))
	}
	return table.Routes
}

func expect(t *testing.T, who string, c *vm.Conn, route abi.Route, want codes.Code) {
	t.Helper()
	err := callEmpty(vm.Context(t), c, route)
	if got := status.Code(err); got != want {
		t.Errorf("%s as %s: %v (%v); want %v", route.Path, who, got, err, want)
	}
}

// callEmpty calls a method with an empty request, and reads at most one message of
// a stream.
func callEmpty(ctx context.Context, c *vm.Conn, route abi.Route) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	service, name, _ := strings.Cut(strings.TrimPrefix(route.Path, "/"), "/")
	m := &ipc.Method{Service: service, Name: name, ClientStream: route.ClientStream, ServerStream: route.ServerStream}
	if !m.ClientStream && !m.ServerStream {
		return c.Invoke(ctx, m, ipc.Raw(nil), ipc.Raw(nil))
	}
	s, err := c.Open(ctx, m, ipc.Raw(nil))
	if err != nil {
		return err
	}
	if err := s.RecvMsg(ipc.Raw(nil)); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// grpcurl is a client that knows nothing of Dactyl but what reflection tells it.
func grpcurl(t *testing.T, r *vm.Running) {
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	writePEM(t, ca, "CERTIFICATE", r.Identity.Authority.Raw)
	writePEM(t, cert, "CERTIFICATE", r.Identity.Certificate.Certificate[0])
	der, err := x509.MarshalPKCS8PrivateKey(r.Identity.Certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, key, "PRIVATE KEY", der)
	run := func(args ...string) string {
		t.Helper()
		all := append([]string{"run", "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4", "-cacert", ca, "-cert", cert, "-key", key}, args...)
		out, err := exec.CommandContext(vm.Context(t), "go", all...).CombinedOutput()
		if err != nil {
			t.Fatalf("grpcurl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if list := run(r.API, "list"); !strings.Contains(list, machine.Service) {
		t.Errorf("grpcurl list:\n%s", list)
	}
	if answer := run(r.API, machine.Service+"/GetVersion"); !strings.Contains(answer, `"mode": "test"`) {
		t.Errorf("grpcurl GetVersion:\n%s", answer)
	}
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
