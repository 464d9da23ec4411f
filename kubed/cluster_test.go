package main

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/dactyl-os/dactyl/kubed/internal/rest"
)

func TestFailuresOfTheAPIServer(t *testing.T) {
	for _, c := range []struct {
		body, want string
		serves     bool
	}{
		{"[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\n", "not yet etcd, rbac/bootstrap-roles", false},
		{"[+]etcd ok\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\nreadyz check failed\n", "not yet rbac/bootstrap-roles", true},
		{"Internal error\nmore", "it answers 500: Internal error", false},
	} {
		err := failure(rest.Answer{Status: 500, Body: []byte(c.body)})
		if err.Error() != c.want || errors.As(err, new(finishing)) != c.serves {
			t.Errorf("%q: %q, serves %v", c.body, err, errors.As(err, new(finishing)))
		}
	}
}

func TestReadNode(t *testing.T) {
	for _, c := range []struct {
		text string
		want nodeIs
	}{
		{`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}},"spec":{"podCIDR":"10.244.0.0/24"},"status":{"conditions":[{"type":"MemoryPressure","status":"False"},{"type":"Ready","status":"True","message":"kubelet is posting ready status"}]}}`,
			nodeIs{ready: true, message: "kubelet is posting ready status", labelled: true}},
		{`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`,
			nodeIs{ready: true}}, // without a range of pods' addresses
		{`{"metadata":{"labels":{"a":"b"}},"status":{"conditions":[{"type":"Ready","status":"Unknown","message":"Kubelet stopped posting node status."}]}}`,
			nodeIs{message: "Kubelet stopped posting node status."}},
		{`{"metadata":{}}`, nodeIs{message: "the kubelet has not told its state yet"}},
	} {
		if got, err := readNode([]byte(c.text)); err != nil || got != c.want {
			t.Errorf("%s: %v %v", c.text, got, err)
		}
	}
	if _, err := readNode([]byte("no")); err == nil {
		t.Error("a node that is not JSON")
	}
}

// A node gets its labels, and its range if it has none: another one cannot be changed.
func TestNodePatch(t *testing.T) {
	pods := netip.MustParsePrefix("10.244.0.0/24")
	for node, want := range map[string]string{
		`{"spec":{}}`:                          `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}},"spec":{"podCIDR":"10.244.0.0/24","podCIDRs":["10.244.0.0/24"]}}`,
		`{"spec":{"podCIDR":"10.244.1.0/24"}}`: `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`,
	} {
		if got, err := nodePatch([]byte(node), pods); err != nil || got != want {
			t.Errorf("%s: %s, %v", node, got, err)
		}
	}
}
