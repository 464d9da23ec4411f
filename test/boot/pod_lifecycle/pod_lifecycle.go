// Scenario pod_lifecycle: what people do with Kubernetes, done with their own kubectl. A
// Deployment of an image that was loaded from a file runs, can be looked into, is probed
// and restarted, has its configuration, its secrets and its volumes, is found by others
// over a Service; and what nobody should be able to do is refused. If it fails, Dactyl
// boots something that looks like Kubernetes and is of no use.
package pod_lifecycle

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

// pods are the objects that this scenario is about: web is served, asker asks it from a
// user namespace of its own.
const pods = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: good morning}
---
apiVersion: v1
kind: Secret
metadata: {name: credentials}
stringData: {password: open sesame}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: workload
        image: ` + vm.TestImageName + `
        env:
        - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: credentials, key: password}}}
        livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 2, timeoutSeconds: 15, failureThreshold: 2}
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1, timeoutSeconds: 15, failureThreshold: 1}
        volumeMounts:
        - {name: settings, mountPath: /settings}
        - {name: credentials, mountPath: /credentials}
        - {name: disk, mountPath: /disk}
        - {name: memory, mountPath: /memory}
        - {name: token, mountPath: /token}
      volumes:
      - {name: settings, configMap: {name: settings}}
      - {name: credentials, secret: {secretName: credentials}}
      - {name: disk, emptyDir: {}}
      - {name: memory, emptyDir: {medium: Memory, sizeLimit: 64Ki}}
      - name: token
        projected:
          sources:
          - serviceAccountToken: {path: token, expirationSeconds: 600}
          - configMap: {name: kube-root-ca.crt}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: asker}
spec:
  hostUsers: false
  containers:
  - name: workload
    image: ` + vm.TestImageName + `
    securityContext: {runAsUser: 0}
`

// hostPath needs a namespace whose label allows it.
const hostPath = `
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: workload
    image: ` + vm.TestImageName + `
    securityContext: {runAsUser: 0}
    volumeMounts:
    - {name: logs, mountPath: /logs, readOnly: true}
    - {name: made, mountPath: /made}
    - {name: above, mountPath: /above}
  volumes:
  - {name: logs, hostPath: {path: /var/log/pods, type: Directory}}
  - {name: made, hostPath: {path: /tmp/pod_lifecycle, type: DirectoryOrCreate}}
  - {name: above, hostPath: {path: /tmp, type: Directory}}
`

// story is the scenario under way.
type story struct {
	t *testing.T
	r *vm.Running
	c *vm.Cluster
}

// Scenario wants vm.NodePort forwarded.
func Scenario(t *testing.T, r *vm.Running) {
	r.WaitReady()
	r.NeedTestImage()
	c := r.Cluster()
	keeper := c.InPrivileged("pod-lifecycle-host")
	s := story{t, r, c.In("pod-lifecycle")}
	keeper.Apply(hostPath)
	s.start()
	keeper.Run("wait", "--for=condition=Ready", "pod/keeper", "--timeout=4m")
	ended := s.unread(keeper)

	s.looks()
	s.volumes()
	s.copies()
	s.token()
	s.service()
	s.userNamespace()
	s.probes()
	s.refusals()
	s.hostPath(keeper)
	ended()

	s.c.Run("delete", "service", "web") // the next scenario wants its port
}

// start waits until everything runs; a Service's port may still be another's.
func (s *story) start() {
	s.t.Helper()
	vm.Eventually(s.t, func() string {
		if _, err := s.c.Try(pods, "apply", "-f", "-"); err != nil {
			return err.Error()
		}
		return ""
	})
	s.c.Run("rollout", "status", "deployment/web", "--timeout=4m")
	s.c.Run("wait", "--for=condition=Ready", "pod/asker", "--timeout=4m")
}

// does is a command of the workload and a part of what it prints.
type does struct{ command, prints string }

// in has the workload do all that in a pod. Each kubectl exec takes a second or two
// without KVM.
func (s *story) in(pod string, all ...does) {
	s.t.Helper()
	var commands strings.Builder
	for _, d := range all {
		fmt.Fprintln(&commands, d.command)
	}
	out, err := s.c.Try(commands.String(), "exec", "-i", pod, "--", "workload", "each")
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	for _, d := range all {
		printed, rest, _ := strings.Cut(out, d.command+" -> ")
		result, rest, _ := strings.Cut(rest, "\n")
		if result != "done" || !strings.Contains(printed, d.prints) {
			s.t.Errorf("%s in %s: %q, want %q; %s", d.command, pod, printed, d.prints, result)
		}
		out = rest
	}
}

const web, asker = "deployment/web", "pod/asker"

func (s *story) looks() {
	if log := s.c.Run("logs", web); !strings.Contains(log, "listens on port 8080 as user 65532") {
		s.t.Errorf("kubectl logs: %q", log)
	}
	if out, err := s.c.Try("over the wire\n", "exec", "-i", web, "--", "workload", "write", "/disk/typed"); err != nil {
		s.t.Errorf("exec with an input: %v %s", err, out)
	}
	s.in(web, does{"cat /disk/typed", "over the wire"})
	const size = 4 << 20 // more than fits between kubectl and the program
	if _, err := s.c.Try(strings.Repeat("much", size/4), "exec", "-i", web, "--", "workload", "receive", "/disk/received", strconv.Itoa(size)); err != nil {
		s.t.Errorf("exec of a program that closes its outputs before it reads its input: %v", err)
	}
	s.in(web, does{"rm /disk/received", ""})
	if _, err := s.c.Try("", "exec", web, "--", "workload", "exit", "7"); err == nil || !strings.Contains(err.Error(), "exit code 7") {
		s.t.Errorf("exec of what ends with 7: %v", err)
	}
	s.forwarded(func(address string) {
		if out, err := s.http(http.MethodGet, "http://"+address+"/env?name=GREETING", ""); err != nil || out != "200 good morning\n" {
			s.t.Errorf("over kubectl port-forward: %q, %v", out, err)
		}
	})
}

// unread begins to send a program more than it reads before it ends, and returns what
// expects kubectl to end as well, with the program's exit code. The scenario goes on
// meanwhile.
func (s *story) unread(keeper *vm.Cluster) (ended func()) {
	said := make(chan error, 1)
	go func() {
		_, err := keeper.Try(strings.Repeat("much", 1<<19), "exec", "-i", "keeper", "--", "workload", "true")
		said <- err
	}()
	return func() {
		s.t.Helper()
		if err := <-said; err != nil {
			s.t.Errorf("exec of what does not read its input: %v", err)
		}
	}
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) -> 8080`)

// forwarded calls f while kubectl forwards a port of this host to web.
func (s *story) forwarded(f func(address string)) {
	s.t.Helper()
	ctx, stop := context.WithCancel(vm.Context(s.t))
	cmd := s.c.Command(ctx, "port-forward", web, ":8080", "--address=127.0.0.1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	defer cmd.Wait() // it has been told to end
	defer stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if m := forwarding.FindStringSubmatch(lines.Text()); m != nil {
			f(m[1])
			return
		}
	}
	s.t.Error("kubectl port-forward does not forward")
}

func (s *story) volumes() {
	s.in(web,
		does{"cat /settings/greeting", "good morning"},
		does{"cat /credentials/password", "open sesame"},
		does{"cat /proc/mounts", " /memory tmpfs rw,"},
		does{"cat /proc/mounts", " /disk ext4 rw,"},
		does{"cat /proc/mounts", " /credentials tmpfs ro,"})
	if out, err := s.c.Try(strings.Repeat("much", 1<<15), "exec", "-i", web, "--", "workload", "write", "/memory/much"); err == nil {
		s.t.Errorf("128 KiB fit into a volume of 64: %s", out)
	}
	s.c.Run("exec", web, "--", "workload", "rm", "/memory/much")
	if out, err := s.c.Try("kept\n", "exec", "-i", web, "--", "workload", "write", "/memory/kept"); err != nil {
		s.t.Errorf("write to memory: %v %s", err, out)
	}
}

// copies sends a file into the pod and back.
func (s *story) copies() {
	dir := s.t.TempDir()
	there, back := filepath.Join(dir, "there"), filepath.Join(dir, "back")
	text := strings.Repeat("copied\n", 1<<16)
	if err := os.WriteFile(there, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	pod := strings.TrimSpace(s.c.Run("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"))
	s.c.Run("cp", there, pod+":/disk/copied")
	s.c.Run("cp", pod+":/disk/copied", back)
	if got, err := os.ReadFile(back); err != nil || string(got) != text {
		s.t.Errorf("kubectl cp there and back: %d bytes, %v: want %d", len(got), err, len(text))
	}
}

// token: kube-apiserver knows the pod by its token, over its Service's name, and lets it
// do nothing.
func (s *story) token() {
	const list = "/api/v1/namespaces/pod-lifecycle/pods"
	who := "User \\\"system:serviceaccount:pod-lifecycle:default\\\" cannot list"
	for _, dir := range []string{"/token", "/var/run/secrets/kubernetes.io/serviceaccount"} {
		if out, err := s.c.Try("", "exec", web, "--", "workload", "api", dir, list); err == nil || !strings.Contains(out, who) {
			s.t.Errorf("kube-apiserver asked with the token in %s: %v\n%s", dir, err, out)
		}
	}
	s.c.Run("create", "rolebinding", "readers", "--clusterrole=view", "--serviceaccount=pod-lifecycle:default")
	vm.Eventually(s.t, func() string {
		out, err := s.c.Try("", "exec", web, "--", "workload", "api", "/token", list)
		if err != nil || !strings.Contains(out, `"kind":"PodList"`) {
			return fmt.Sprintf("a pod whose account may list pods: %v\n%s", err, out)
		}
		return ""
	})
}

// service: web is reached in every way from another pod, and from outside.
func (s *story) service() {
	address := s.c.Run("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	node := s.c.Run("get", "nodes", "-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`)
	var asked []does
	for _, host := range []string{address, "web", "web.pod-lifecycle", "web.pod-lifecycle.svc.cluster.local", node + ":30080"} {
		asked = append(asked, does{"get http://" + host + "/", "pod web-"})
	}
	s.in(asker, asked...)
	if out, err := s.http(http.MethodGet, s.nodePort()+"/", ""); err != nil || !strings.HasPrefix(out, "200 pod web-") {
		s.t.Errorf("the NodePort from outside: %q, %v", out, err)
	}
}

func (s *story) nodePort() string { return "http://" + s.r.Forwarded(vm.NodePort) }

// userNamespace: root in the pod is somebody else on the machine.
func (s *story) userNamespace() {
	m := strings.Fields(s.c.Run("exec", asker, "--", "workload", "cat", "/proc/self/uid_map", "/var/run/secrets/kubernetes.io/serviceaccount/namespace"))
	if len(m) != 4 || m[0] != "0" || m[1] == "0" || m[2] != "65536" || m[3] != "pod-lifecycle" {
		s.t.Errorf("users of a pod with hostUsers: false, and its namespace: %q, want 65536 from 0 that are others outside", m)
	}
}
