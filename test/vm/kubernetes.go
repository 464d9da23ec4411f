package vm

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/log"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// readyPatience bounds the wait for a node to be Ready after its API answers: a
// minute without KVM on two processors that do nothing else. Like patience, only what
// never happens fails by it.
const readyPatience = 20 * time.Minute

// NodeReady waits until the node is Ready and all components are healthy. When ctx
// ends it says what was being waited for.
func (r *Running) NodeReady(ctx context.Context) error { return nodeReady(ctx, r.Kube()) }

func nodeReady(ctx context.Context, kubed kube.Client) error {
	var last *kube.GetStatusResponse
	for {
		now, err := kubed.GetStatus(ctx, &kube.GetStatusRequest{Brief: true})
		switch {
		case err == nil && now.State == kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED:
			return errors.New("the machine has no part in a cluster: is there a kubernetes section in Config.YAML?")
		case err == nil && now.Ready:
			return nil
		case err == nil:
			last = now
		case status.Code(err) == codes.Unimplemented, status.Code(err) == codes.PermissionDenied:
			return err
		}
		if !slowPause(ctx) {
			return fmt.Errorf("the node is not Ready: %s", describe(last))
		}
	}
}

// describe tells what a node that is not Ready waits for.
func describe(s *kube.GetStatusResponse) string {
	if s == nil {
		return "kubed has not answered"
	}
	out := s.Message
	for _, c := range s.Components {
		if !c.Healthy {
			out += fmt.Sprintf("\n  %s: %s", c.Name, words.Of(c.State))
			if c.WaitingFor != "" {
				out += ", waits for " + c.WaitingFor
			}
			if c.Reason != "" {
				out += ": " + c.Reason
			}
		}
	}
	return out
}

// WaitReady is NodeReady for a scenario: a node that does not become Ready fails it.
func (r *Running) WaitReady() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), readyPatience)
	defer cancel()
	if err := r.NodeReady(ctx); err != nil {
		r.t.Fatalf("%v\n%s\n%s", err, LogsOfIll(Context(r.t), r.Admin), r.Serial.Last(12))
	}
}

// WaitHealthy waits until a component is well, on a node that may not be Ready.
func (r *Running) WaitHealthy(name string) {
	r.t.Helper()
	ctx := Context(r.t)
	for {
		now, err := r.Kube().GetStatus(ctx, &kube.GetStatusRequest{Brief: true})
		if err == nil && slices.ContainsFunc(now.Components, func(c *kube.Component) bool { return c.Name == name && c.Healthy }) {
			return
		}
		if !slowPause(ctx) {
			r.t.Fatalf("%s is not well: %s, %v", name, describe(now), err)
		}
	}
}

// LogsOfIll returns the last lines of kubed and of each component that has been
// started and is not healthy.
func LogsOfIll(ctx context.Context, admin *Conn) string {
	now, err := kube.NewClient(admin).GetStatus(ctx, &kube.GetStatusRequest{Brief: true})
	if err != nil {
		return err.Error()
	}
	names := []string{"kubed"}
	for _, c := range now.Components {
		if !c.Healthy && c.State != machine.DaemonState_DAEMON_STATE_IDLE {
			names = append(names, c.Name)
		}
	}
	var b strings.Builder
	for _, name := range names {
		lines, err := log.NewClient(admin).ReadLog(ctx, &log.ReadLogRequest{Daemon: name, Tail: 25})
		for err == nil {
			var l *log.Line
			if l, err = lines.Recv(); err == nil {
				fmt.Fprintf(&b, "  %s %s: %s\n", time.Unix(0, l.TimeUnixNs).UTC().Format("15:04:05.000"), name, l.Text)
			}
		}
	}
	return b.String()
}

// Kube returns a client of kubed.
func (r *Running) Kube() kube.Client { return kube.NewClient(r.Admin) }

// Pods returns a client of podd.
func (r *Running) Pods() pods.Client { return pods.NewClient(r.Admin) }

// Kubeconfig writes credentials of a cluster's admin and returns the file. It is for
// the ports that are forwarded now: after PowerOn there are others.
func (r *Running) Kubeconfig(t *testing.T) string {
	t.Helper()
	text, err := Kubeconfig(Context(t), r.Admin, r.KubeURL())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Kubeconfig returns credentials of a cluster's admin for the API server at server.
func Kubeconfig(ctx context.Context, admin *Conn, server string) ([]byte, error) {
	info, err := kube.NewClient(admin).GetKubeconfigInfo(ctx, &kube.GetKubeconfigInfoRequest{})
	if err != nil {
		return nil, err
	}
	key, csr, err := NewCSR()
	if err != nil {
		return nil, err
	}
	issued, err := trust.NewClient(admin).IssueKubernetesClient(ctx, &trust.IssueKubernetesClientRequest{Csr: csr, Name: "scenario"})
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.Certificate})
	return encode(map[string]any{ // kubeconfig is YAML, and so is JSON
		"apiVersion": "v1", "kind": "Config", "current-context": "scenario",
		"clusters": []any{map[string]any{"name": "scenario", "cluster": map[string]any{"server": server, "certificate-authority-data": info.Authority}}},
		"users": []any{map[string]any{"name": "scenario", "user": map[string]any{
			"client-certificate-data": certificate, "client-key-data": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}}},
		"contexts": []any{map[string]any{"name": "scenario", "context": map[string]any{"cluster": "scenario", "user": "scenario"}}},
	}), nil
}

// Cluster is kubectl with a kubeconfig of the machine's.
type Cluster struct {
	Config    string // the kubeconfig
	Namespace string // empty: default

	kubectl string
	t       *testing.T
	life    context.Context // the machine's
}

// Cluster returns a way to the machine's cluster, as it is until the next PowerOn.
func (r *Running) Cluster() *Cluster {
	r.t.Helper()
	return &Cluster{Config: r.Kubeconfig(r.t), kubectl: Kubectl(r.t), t: r.t, life: r.life}
}

// Command is kubectl with these arguments, to be started.
func (c *Cluster) Command(ctx context.Context, args ...string) *exec.Cmd {
	all := []string{"--kubeconfig", c.Config}
	if c.Namespace != "" {
		all = append(all, "--namespace", c.Namespace)
	}
	return exec.CommandContext(ctx, c.kubectl, append(all, args...)...)
}

// noHandshake is what kubectl says when the API server has not finished its TLS handshake
// within ten seconds: for a machine without KVM that starts pods, that is not long.
const noHandshake = "TLS handshake timeout"

// Try runs kubectl with input and returns what it prints; its error says what it
// complained about. It is run again when nothing has been asked for want of a handshake.
func (c *Cluster) Try(input string, args ...string) (string, error) {
	ctx := Context(c.t)
	for {
		out, err := c.once(ctx, input, args)
		if err == nil || !strings.Contains(err.Error(), noHandshake) || !Pause(ctx) {
			return out, err
		}
	}
}

func (c *Cluster) once(ctx context.Context, input string, args []string) (string, error) {
	cmd := c.Command(ctx, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// Run is Try without input where an error fails the test.
func (c *Cluster) Run(args ...string) string {
	c.t.Helper()
	out, err := c.Try("", args...)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// Apply creates or changes what the YAML describes.
func (c *Cluster) Apply(yaml string) {
	c.t.Helper()
	if _, err := c.Try(yaml, "apply", "-f", "-"); err != nil {
		c.t.Fatalf("%v\n%s", err, yaml)
	}
}

// In returns c in a namespace of its own with this name, which goes with the test. It
// has the account that pods need, which the controller-manager makes.
func (c *Cluster) In(namespace string) *Cluster {
	c.t.Helper()
	return c.in(namespace, map[string]string{})
}

// InPrivileged is In where pods may do everything. The namespace is born so: of a label
// that it gets later, admission hears later than whoever creates a pod at once.
func (c *Cluster) InPrivileged(namespace string) *Cluster {
	c.t.Helper()
	return c.in(namespace, map[string]string{"pod-security.kubernetes.io/enforce": "privileged"})
}

func (c *Cluster) in(namespace string, labels map[string]string) *Cluster {
	c.t.Helper()
	object := encode(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace, "labels": labels}})
	if _, err := c.Try(string(object), "create", "-f", "-"); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if c.life.Err() != nil {
			return // the machine was this test's own, and has ended with it
		}
		ctx, cancel := context.WithTimeout(c.life, time.Minute) // the test's own has ended
		defer cancel()
		if out, err := c.Command(ctx, "delete", "namespace", namespace, "--wait=false").CombinedOutput(); err != nil {
			c.t.Logf("delete namespace %s: %v: %s", namespace, err, out)
		}
	})
	in := *c
	in.Namespace = namespace
	in.awaitAccount()
	return &in
}

// awaitAccount waits for a new namespace's account: no pod is accepted before.
func (c *Cluster) awaitAccount() {
	c.t.Helper()
	Eventually(c.t, func() string {
		if _, err := c.Try("", "get", "serviceaccount", "default"); err != nil {
			return err.Error()
		}
		return ""
	})
}

// NeedTestImage loads TestImage unless the machine has it: sending it takes seconds
// without KVM, and the kubelet removes it when the disk is full.
func (r *Running) NeedTestImage() {
	r.t.Helper()
	there, err := r.Pods().ListImages(Context(r.t), &pods.ListImagesRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	if !slices.ContainsFunc(there.Images, func(i *pods.Image) bool { return slices.Contains(i.Names, TestImageName) }) {
		r.LoadImage(TestImage(r.t))
	}
}

// LoadImage sends an archive to the machine, as dactyl image load does.
func (r *Running) LoadImage(archive string) *pods.LoadImageResponse {
	r.t.Helper()
	answer, err := LoadImage(Context(r.t), r.Pods(), archive)
	if err != nil {
		r.t.Fatalf("load %s: %v", archive, err)
	}
	return answer
}

// LoadImage sends an archive.
func LoadImage(ctx context.Context, c pods.Client, archive string) (*pods.LoadImageResponse, error) {
	text, err := os.ReadFile(archive)
	if err != nil {
		return nil, err
	}
	up, err := c.LoadImage(ctx)
	if err != nil {
		return nil, err
	}
	next := &pods.LoadImageRequest{Header: &pods.LoadImageHeader{SizeBytes: uint64(len(text))}}
	for {
		err := up.Send(next)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if err != nil || len(text) == 0 { // io.EOF: the answer says why it was refused
			return up.CloseAndReceive()
		}
		n := min(len(text), 1<<20)
		next, text = &pods.LoadImageRequest{Chunk: text[:n]}, text[n:]
	}
}
