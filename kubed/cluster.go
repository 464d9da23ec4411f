package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/dactyl-os/dactyl/kubed/internal/render"
	"github.com/dactyl-os/dactyl/kubed/internal/rest"
)

// cluster is what is asked over HTTP: the parts whether they work, the API server for
// objects.
type cluster interface {
	check(ctx context.Context, name partName) error
	node(ctx context.Context, name string) (nodeIs, error)
	apply(ctx context.Context, o render.Object) (version string, err error)
	version(ctx context.Context, o render.Object) (string, error)
	label(ctx context.Context, node string, pods netip.Prefix) error
}

// endpoint is where a part answers whether it works.
type endpoint struct {
	address string
	name    string // in its certificate; empty where it has none
	path    string
}

var endpoints = map[partName]endpoint{
	"kube-apiserver":          {"127.0.0.1:6443", "127.0.0.1", "/readyz"},
	"kube-controller-manager": {"127.0.0.1:10257", "kube-controller-manager", "/healthz"},
	"kube-scheduler":          {"127.0.0.1:10259", "kube-scheduler", "/healthz"},
	"kubelet":                 {"127.0.0.1:10248", "", "/healthz"},
	"kube-proxy":              {"127.0.0.1:10256", "", "/livez"},
	"coredns":                 {"127.0.0.1:8181", "", "/ready"},
}

// local is the cluster as this machine's parts make it.
type local struct {
	files   files
	clients map[partName]*rest.Client
}

func newLocal(f files) *local {
	l := &local{f, map[partName]*rest.Client{}}
	for name, e := range endpoints {
		c := &rest.Client{Address: e.address}
		if e.name != "" {
			c.TLS = func() (*tls.Config, error) { return l.identify(e.name) }
		}
		l.clients[name] = c
	}
	return l
}

// identify reads key and certificates, which trustd renews, again for each connection. The
// server must have the name given.
func (l *local) identify(server string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(l.files.key("client.crt"), l.files.key("client.key"))
	if err != nil {
		return nil, err
	}
	ca, err := l.files.authority()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("kubernetes-ca.crt: not a certificate")
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: server}, nil
}

func (l *local) check(ctx context.Context, name partName) error {
	a, err := l.clients[name].Get(ctx, endpoints[name].path)
	if err != nil {
		return err
	}
	if a.Status == 200 {
		return nil
	}
	return failure(a)
}

// finishing is the error of an API server that serves, and has only left to write
// what every new cluster has, such as the roles of the controllers. A kubelet needs
// none of it.
type finishing []string

func (f finishing) Error() string { return "not yet " + strings.Join(f, ", ") }

// failure names the checks that fail, if the answer lists them.
func failure(a rest.Answer) error {
	var failing []string
	serves := true
	for line := range strings.Lines(string(a.Body)) {
		if name, ok := strings.CutPrefix(line, "[-]"); ok {
			name, _, _ = strings.Cut(name, " ")
			name, hook := strings.CutPrefix(name, "poststarthook/")
			failing = append(failing, name)
			serves = serves && hook
		}
	}
	switch {
	case len(failing) == 0:
		return fmt.Errorf("it answers %d: %s", a.Status, a.Line())
	case serves:
		return finishing(failing)
	}
	return errors.New(finishing(failing).Error())
}

func (l *local) api(ctx context.Context, r rest.Request) (rest.Answer, error) {
	a, err := l.clients["kube-apiserver"].Do(ctx, r)
	if err == nil && a.Status >= 300 {
		var status struct{ Message string }
		if json.Unmarshal(a.Body, &status) != nil || status.Message == "" {
			status.Message = a.Line()
		}
		err = fmt.Errorf("%s %s: %d: %s", r.Method, r.Path, a.Status, status.Message)
	}
	return a, err
}

func (l *local) node(ctx context.Context, name string) (nodeIs, error) {
	a, err := l.api(ctx, rest.Request{Method: "GET", Path: nodePath(name)})
	if a.Status == 404 {
		return nodeIs{gone: true, message: "the kubelet has not registered it yet"}, nil
	}
	if err != nil {
		return nodeIs{}, err
	}
	return readNode(a.Body)
}

func nodePath(name string) string { return "/api/v1/nodes/" + url.PathEscape(name) }

// readNode takes from a Node what counts here.
func readNode(text []byte) (nodeIs, error) {
	var n struct {
		Metadata struct{ Labels map[string]string }
		Spec     struct{ PodCIDR string }
		Status   struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := json.Unmarshal(text, &n); err != nil {
		return nodeIs{}, fmt.Errorf("read the node: %w", err)
	}
	is := nodeIs{message: "the kubelet has not told its state yet", labelled: n.Spec.PodCIDR != ""}
	for key := range render.NodeLabels {
		_, has := n.Metadata.Labels[key]
		is.labelled = is.labelled && has
	}
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			is.ready, is.message = c.Status == "True", c.Message
		}
	}
	return is, nil
}

// apply returns the version that the object then has.
func (l *local) apply(ctx context.Context, o render.Object) (string, error) {
	a, err := l.api(ctx, rest.Request{
		Method: "PATCH", Path: o.Path + "?fieldManager=dactyl&force=true", ContentType: "application/apply-patch+yaml", Body: o.Body,
	})
	return versionOf(a, err)
}

// version returns the version that an object has; none if it is not there.
func (l *local) version(ctx context.Context, o render.Object) (string, error) {
	a, err := l.api(ctx, rest.Request{Method: "GET", Path: o.Path})
	if a.Status == 404 {
		return "", nil
	}
	return versionOf(a, err)
}

func versionOf(a rest.Answer, err error) (string, error) {
	var o struct {
		Metadata struct{ ResourceVersion string }
	}
	if err == nil {
		err = json.Unmarshal(a.Body, &o)
	}
	return o.Metadata.ResourceVersion, err
}

// label gives a node its labels and, if it has none, its range of pods' addresses: the
// one that the pods' network has been configured with. A range that is there cannot be
// changed.
func (l *local) label(ctx context.Context, node string, pods netip.Prefix) error {
	a, err := l.api(ctx, rest.Request{Method: "GET", Path: nodePath(node)})
	if err != nil {
		return err
	}
	body, err := nodePatch(a.Body, pods)
	if err != nil {
		return err
	}
	_, err = l.api(ctx, rest.Request{Method: "PATCH", Path: nodePath(node), ContentType: "application/merge-patch+json", Body: body})
	return err
}

// nodePatch is what a Node lacks.
func nodePatch(node []byte, pods netip.Prefix) (string, error) {
	var n struct{ Spec struct{ PodCIDR string } }
	if err := json.Unmarshal(node, &n); err != nil {
		return "", fmt.Errorf("read the node: %w", err)
	}
	patch := map[string]any{"metadata": map[string]any{"labels": render.NodeLabels}}
	if n.Spec.PodCIDR == "" {
		patch["spec"] = map[string]any{"podCIDR": pods.String(), "podCIDRs": []string{pods.String()}}
	}
	body, err := json.Marshal(patch)
	return string(body), err
}
