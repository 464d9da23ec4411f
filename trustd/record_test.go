package main

import (
	"crypto/x509"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

func originOf(c *x509.Certificate) ipc.Origin {
	return ipc.Origin{Name: c.Subject.CommonName, Role: auth.RoleOf(c), Serial: trust.Serial(c), Lineage: trust.Lineage(c)}
}

// A record that is full of other clients does not keep an admin from renewing, however
// often it renews; and no other client disappears from the record for it.
func TestRenewalWithFullRecord(t *testing.T) {
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	disk := &fakeStore{files: map[string][]byte{}, writesLeft: -1}
	e := newTestEngine(t, disk, &now)
	key := newTestKey(t)
	csr := newCSR(t)
	alice, err := e.issueClient(ipc.Origin{}, csr, auth.Role_ROLE_ADMIN, "alice", 3600)
	if err != nil {
		t.Fatal(err)
	}
	for range maxClients - 1 {
		c, err := e.authority.issue(leaf{client("bob", "reader"), key.Public(), now.Add(time.Hour), descent{lineage: []string{}}})
		if err != nil {
			t.Fatal(err)
		}
		disk.files[recordOf(c)] = c.Raw
	}
	for n := range 3 {
		if alice, err = e.issueClient(originOf(alice), csr, auth.Role_ROLE_ADMIN, "alice", 3600); err != nil {
			t.Fatalf("renewal %d: %v", n, err)
		}
	}
	if _, err := e.issueClient(originOf(alice), csr, auth.Role_ROLE_READER, "eve", 0); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("another client: %v", err)
	}
	all, err := e.issued()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, c := range all {
		names[c.Subject.CommonName]++
	}
	if names["alice"] != 1 || names["bob"] != maxClients-1 {
		t.Errorf("on record: %v", names)
	}
	if _, err := disk.read(recordOf(alice)); err != nil {
		t.Errorf("the last renewal is not on record: %v", err)
	}
}

// kubectl asks for a certificate whenever it needs one. That is never refused, leaves the
// latest on record, and takes no room from the clients of the machine.
func TestKubectlFillsNoRecord(t *testing.T) {
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	disk := &fakeStore{files: map[string][]byte{}, writesLeft: -1}
	e := newTestEngine(t, disk, &now)
	prepareNode(t, e)
	i, err := openIdentity(e.readOnly, e.readOrCreate, e.random)
	if err != nil {
		t.Fatal(err)
	}
	key, csr := newTestKey(t), newCSR(t)
	alice, err := e.issueClient(ipc.Origin{}, csr, auth.Role_ROLE_ADMIN, "alice", 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := range maxClients {
		c, err := i.authorities[kubernetesCA].issue(leaf{client("alice", adminGroup), key.Public(), now.Add(time.Duration(n+1) * time.Minute), descent{lineage: []string{}}})
		if err != nil {
			t.Fatal(err)
		}
		disk.files[recordOf(c)] = c.Raw
	}
	c, _, err := e.issueKubernetesClient(originOf(alice), csr, "alice", 365*24*3600)
	if err != nil {
		t.Fatalf("kubectl: %v", err)
	}
	if _, err := disk.read(recordOf(c)); err != nil {
		t.Errorf("it is not on record: %v", err)
	}
	if _, err := e.issueClient(originOf(alice), csr, auth.Role_ROLE_READER, "eve", 0); err != nil {
		t.Errorf("a client of the machine: %v", err)
	}
	all, err := e.issued()
	if err != nil || len(all) != keptKubernetes+2 {
		t.Errorf("%d on record, want %d of Kubernetes and alice and eve: %v", len(all), keptKubernetes, err)
	}
}

func prepareNode(t *testing.T, e *engine) {
	t.Helper()
	w, err := newWish("edge1", []string{"10.0.2.15"}, "10.96.0.0/16", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.prepare(w); err != nil {
		t.Fatal(err)
	}
}
