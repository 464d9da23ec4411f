package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	timeapi "github.com/dactyl-os/dactyl/ipc/time"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

var methods = map[string][]string{trust.Service: {"ListCertificates", "Claim", "IssueClient", "IssueServer", "GetPairing", "PrepareKubernetes", "IssueKubernetesClient"}}

// serveState serves what is in dir as setup does, and returns a client.
func serveState(t *testing.T, dir string, names func(context.Context) subjectNames) trust.Client {
	t.Helper()
	return serveBoth(t, dir, t.TempDir(), names)
}

// serveBoth is the same with the directory for Kubernetes' parts.
func serveBoth(t *testing.T, dir, parts string, names func(context.Context) subjectNames) trust.Client {
	t.Helper()
	d, err := openDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openShare(parts)
	if err != nil {
		t.Fatal(err)
	}
	e, err := openEngine(d, s, machineClock(func() bool { return false }, built), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return trust.NewClient(ipctest.Pair(t, methods, func(r ipc.Registrar) {
		trust.Register(r, &server{engine: e, names: names, log: slog.New(slog.DiscardHandler)})
	}))
}

func newCSR(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func noNames(context.Context) subjectNames { return machineNames("", nil) }

// The whole way of an owner: read the code, claim, issue for others, list.
func TestOwner(t *testing.T) {
	ctx := t.Context()
	c := serveState(t, t.TempDir(), noNames)
	server, err := c.IssueServer(ctx, &trust.IssueServerRequest{Csr: newCSR(t)})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := c.GetPairing(ctx, &trust.GetPairingRequest{})
	if err != nil {
		t.Fatal(err)
	}
	code, err := trust.ParseCode(shown.Code)
	if err != nil || !code.Matches(server.Authority) {
		t.Fatalf("code %s does not name the CA: %v", shown.Code, err)
	}
	csr := newCSR(t)
	claimed, err := c.Claim(ctx, &trust.ClaimRequest{Csr: csr, Proof: trust.Proof(code.Secret, server.Authority, csr), TimeUnix: time.Now().Unix()})
	if err != nil {
		t.Fatal(err)
	}
	if !trust.Equal(claimed.Confirm, trust.Confirm(code.Secret, claimed.Certificate, claimed.Authority)) {
		t.Error("wrong confirmation")
	}
	if shown, err := c.GetPairing(ctx, &trust.GetPairingRequest{}); err != nil || shown.Code != "" || shown.Fingerprint == "" {
		t.Errorf("claimed, and still shows %v, %v", shown, err)
	}
	issued, err := c.IssueClient(ctx, &trust.IssueClientRequest{Csr: newCSR(t), Role: auth.Role_ROLE_READER, Name: "bob", TtlS: 60})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := x509.ParseCertificate(issued.Certificate); err != nil || !slices.Equal(got.Subject.Organization, []string{"reader"}) {
		t.Errorf("issued %v, %v", got, err)
	}
	all, err := c.ListCertificates(ctx, &trust.ListCertificatesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, one := range all.Certificates {
		got = append(got, strings.Join([]string{one.Kind, one.Subject, words.Of(one.Role) + one.Group}, " "))
	}
	slices.Sort(got)
	if want := []string{"ca Dactyl OS CA ", "client bob reader", "client owner admin", "server localhost "}; !slices.Equal(got, want) {
		t.Errorf("list is %q, want %q", got, want)
	}
}

// While one trustd replaces another both answer; of two claims one wins.
func TestTwoAtOnce(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	clients := []trust.Client{serveState(t, dir, noNames), serveState(t, dir, noNames)}
	shown, err := clients[0].GetPairing(ctx, &trust.GetPairingRequest{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := clients[1].IssueServer(ctx, &trust.IssueServerRequest{Csr: newCSR(t)})
	if err != nil {
		t.Fatal(err)
	}
	code, err := trust.ParseCode(shown.Code)
	if err != nil || !code.Matches(server.Authority) {
		t.Fatalf("two identities: %v", err)
	}
	results := make([]codes.Code, 16)
	var wg sync.WaitGroup
	for i := range results {
		csr := newCSR(t)
		wg.Go(func() {
			_, err := clients[i%2].Claim(ctx, &trust.ClaimRequest{Csr: csr, Proof: trust.Proof(code.Secret, server.Authority, csr)})
			results[i] = status.Code(err)
		})
	}
	wg.Wait()
	slices.Sort(results)
	if results[0] != codes.OK || results[1] != codes.FailedPrecondition || results[15] != codes.FailedPrecondition {
		t.Errorf("16 claims end with %v, want one OK", results)
	}
}

// What the disk says is for the log, not for a stranger.
func TestDiskFails(t *testing.T) {
	dir := t.TempDir()
	c := serveState(t, dir, noNames)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	_, err := c.Claim(t.Context(), &trust.ClaimRequest{Csr: newCSR(t)})
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), dir) {
		t.Errorf("claim without a disk: %v", err)
	}
}

func TestDirectory(t *testing.T) {
	root := t.TempDir()
	old := filepath.Join(root, "secret.123"+temporary)
	if err := os.WriteFile(old, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	d, err := openDirectory(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a power cut left is still there: %v", err)
	}
	if _, err := d.read("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of nothing: %v", err)
	}
	if err := d.create("a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := d.create("a", []byte("2")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second create: %v", err)
	}
	if err := d.replace("a", []byte("3")); err != nil {
		t.Fatal(err)
	}
	if b, err := d.read("a"); err != nil || string(b) != "3" {
		t.Errorf("read %q, %v", b, err)
	}
	if i, err := os.Stat(filepath.Join(root, "a")); err != nil || i.Mode() != 0o600 {
		t.Errorf("mode %v, %v", i.Mode(), err)
	}
	if err := errors.Join(d.create("issued/b", nil), d.remove("issued/c")); err != nil {
		t.Fatal(err)
	}
	if names, err := d.list("issued"); err != nil || !slices.Equal(names, []string{"issued/b"}) {
		t.Errorf("list %v, %v", names, err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "*"+temporary)); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// The names come from those who know them; who does not answer is done without.
func TestNames(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	m := machine.NewClient(ipctest.Pair(t, map[string][]string{machine.Service: {"GetVersion"}}, func(r ipc.Registrar) { machine.Register(r, fakeMachine{}) }))
	n := network.NewClient(ipctest.Pair(t, map[string][]string{network.Service: {"ListAddresses", "ListLinks"}}, func(r ipc.Registrar) { network.Register(r, fakeNetwork{}) }))
	nobody := ipc.NewPeer("network", filepath.Join(t.TempDir(), "none"))
	for _, c := range []struct {
		asker asker
		want  subjectNames
	}{
		{asker{n, m, log}, machineNames("edge1", []string{"10.0.2.15/24", "192.0.0.8/32", "fe80::1/64", "2001:db8::1/64"})},
		{asker{network.NewClient(nobody), machine.NewClient(nobody), log}, machineNames("", nil)},
	} {
		got := c.asker.names(t.Context())
		if !slices.Equal(got.dns, c.want.dns) || !slices.Equal(got.addresses, c.want.addresses) {
			t.Errorf("names are %v, want %v", got, c.want)
		}
	}
}

type fakeMachine struct{ machine.Server }

func (fakeMachine) GetVersion(context.Context, *machine.GetVersionRequest) (*machine.Version, error) {
	return &machine.Version{Hostname: "edge1"}, nil
}

type fakeNetwork struct{ network.Server }

// ListAddresses has a node's: two that networkd gave, two of the kernel's on a physical link,
// and those of a pod network with many pods.
func (fakeNetwork) ListAddresses(context.Context, *network.ListAddressesRequest) (*network.ListAddressesResponse, error) {
	out := []*network.Address{{Link: "cni0", Address: "10.244.0.1/24", Origin: "other"}}
	for n := range 2 * maxNames {
		out = append(out, &network.Address{Link: "veth1", Address: fmt.Sprintf("fe80::ff:%x/64", n), Origin: "kernel"})
	}
	return &network.ListAddressesResponse{Addresses: append(out,
		&network.Address{Link: "eth0", Address: "fe80::1/64", Origin: "kernel"},
		&network.Address{Link: "eth0", Address: "10.0.2.15/24", Origin: "dhcp"},
		&network.Address{Link: "eth0", Address: "2001:db8::1/64", Origin: "other"},
		&network.Address{Link: "lo", Address: "192.0.0.8/32", Origin: "static"},
	)}, nil
}

func (fakeNetwork) ListLinks(context.Context, *network.ListLinksRequest) (*network.ListLinksResponse, error) {
	return &network.ListLinksResponse{Links: []*network.Link{
		{Name: "lo", Kind: "loopback"}, {Name: "eth0", Kind: "physical"}, {Name: "veth1", Kind: "veth"}, {Name: "cni0", Kind: "bridge"},
	}}, nil
}

// The log says by whose certificate each other was issued, and the list says it later: a
// renewal is of the same series, another client descends from the one that asked.
func TestLineage(t *testing.T) {
	var log bytes.Buffer
	d, err := openDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	share, err := openShare(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e, err := openEngine(d, share, machineClock(func() bool { return false }, built), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := trust.NewClient(ipctest.Pair(t, methods, func(r ipc.Registrar) {
		trust.Register(r, &server{engine: e, names: noNames, log: slog.New(slog.NewTextHandler(&log, nil))})
	}))
	prepareNode(t, e)
	owner, err := e.authority.issue(leaf{subject: client("owner", "admin"), key: newTestKey(t).Public(), ends: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	issue := func(by *x509.Certificate, name string, role auth.Role) *x509.Certificate {
		t.Helper()
		ctx := ipc.WithOrigin(t.Context(), ipc.Origin{Name: by.Subject.CommonName, Role: auth.RoleOf(by), Serial: trust.Serial(by), Lineage: trust.Lineage(by)})
		var der []byte
		log.Reset()
		if role == auth.Role_ROLE_UNSPECIFIED {
			answer, err := c.IssueKubernetesClient(ctx, &trust.IssueKubernetesClientRequest{Csr: newCSR(t), Name: name})
			if err != nil {
				t.Fatal(err)
			}
			der = answer.Certificate
		} else {
			answer, err := c.IssueClient(ctx, &trust.IssueClientRequest{Csr: newCSR(t), Name: name, Role: role})
			if err != nil {
				t.Fatal(err)
			}
			der = answer.Certificate
		}
		issued, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"serial=" + trust.Serial(issued), "by=" + by.Subject.CommonName, "by_serial=" + trust.Serial(by)} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s: the log lacks %s: %s", name, want, log.String())
			}
		}
		return issued
	}
	renewed := issue(owner, "owner", auth.Role_ROLE_ADMIN)
	bob := issue(renewed, "bob", auth.Role_ROLE_ADMIN)
	bobAgain := issue(bob, "bob", auth.Role_ROLE_ADMIN)
	less := issue(bob, "bob", auth.Role_ROLE_READER) // not a renewal: another role
	eve := issue(bobAgain, "eve", auth.Role_ROLE_READER)
	kubectl := issue(bobAgain, "bob", auth.Role_ROLE_UNSPECIFIED)
	first := trust.Serial(owner)
	for _, one := range []struct {
		name string
		of   *x509.Certificate
		want []string
	}{
		{"owner", owner, []string{first}},
		{"owner, renewed", renewed, []string{first}},
		{"bob", bob, []string{first, trust.Serial(bob)}},
		{"bob, renewed", bobAgain, []string{first, trust.Serial(bob)}},
		{"bob as reader", less, []string{first, trust.Serial(bob), trust.Serial(less)}},
		{"eve", eve, []string{first, trust.Serial(bob), trust.Serial(eve)}},
		{"bob in Kubernetes", kubectl, []string{first, trust.Serial(bob), trust.Serial(kubectl)}},
	} {
		if got := trust.Lineage(one.of); !slices.Equal(got, one.want) {
			t.Errorf("%s: lineage %q, want %q", one.name, got, one.want)
		}
	}
	all, err := c.ListCertificates(t.Context(), &trust.ListCertificatesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all.Certificates {
		of := one.Kind == "client" && one.Receiver == ""
		if of != (len(one.Lineage) > 0) || one.Serial == trust.Serial(eve) && !slices.Equal(one.Lineage, trust.Lineage(eve)) {
			t.Errorf("%s %s of %q: lineage %q", one.Kind, one.Subject, one.Receiver, one.Lineage)
		}
	}
}

func newTestKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// timed says whether the clock is confirmed; while it does not answer, it is not.
func TestConfirmedBy(t *testing.T) {
	methods := map[string][]string{timeapi.Service: {"GetTime"}}
	for _, c := range []fakeTime{{}, {synchronized: true}} {
		client := timeapi.NewClient(ipctest.Pair(t, methods, func(r ipc.Registrar) { timeapi.Register(r, c) }))
		if got := confirmedBy(client)(); got != c.synchronized {
			t.Errorf("synchronized %v: %v", c.synchronized, got)
		}
	}
	if confirmedBy(timeapi.NewClient(ipc.NewPeer("time", filepath.Join(t.TempDir(), "none"))))() {
		t.Error("confirmed by nobody")
	}
}

type fakeTime struct{ synchronized bool }

func (f fakeTime) GetTime(context.Context, *timeapi.GetTimeRequest) (*timeapi.GetTimeResponse, error) {
	return &timeapi.GetTimeResponse{Synchronized: f.synchronized}, nil
}
