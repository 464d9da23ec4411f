// Scenario applications: redis, nginx and PostgreSQL, as Debian packages them, from images
// with script entry points, pulled from a registry with TLS, a private CA and a password,
// run from manifests as people write them. They answer through Services, keep what they
// were given across a power cut, and kubectl exec -i delivers all of its input. Prometheus'
// node exporter runs with the manifest that it has elsewhere. If it fails, Dactyl runs its
// own tests and not what people have.
package applications

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/test/debian"
	"github.com/dactyl-os/dactyl/test/vm"
)

// manifest is of a server that keeps its data below /var/mnt: name, image, port, where
// the data is in the container, and its environment.
const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: %[1]s
        image: %[2]s
        ports: [{containerPort: %[3]d}]
        env: [%[5]s]
        volumeMounts: [{name: data, mountPath: %[4]s}]
        readinessProbe:
          exec: {command: [sh, -c, %[6]q]}
          timeoutSeconds: 30
          periodSeconds: 5
      volumes: [{name: data, hostPath: {path: /var/mnt/%[1]s, type: DirectoryOrCreate}}]
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports: [{port: %[3]d}]
`

// agent is what the manifests of Prometheus' node exporter ask for: the machine's network
// and processes, and all of its files, with mounts that are made later.
const agent = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: node-exporter}
spec:
  selector: {matchLabels: {app: node-exporter}}
  template:
    metadata: {labels: {app: node-exporter}}
    spec:
      hostNetwork: true
      hostPID: true
      nodeSelector: {kubernetes.io/os: linux}
      priorityClassName: system-cluster-critical
      securityContext: {runAsNonRoot: true, runAsUser: 65534}
      tolerations: [{operator: Exists}]
      containers:
      - name: node-exporter
        image: %s
        args: [--web.listen-address=127.0.0.1:9100, --path.sysfs=/hostsys, --path.rootfs=/rootfs, --path.udev.data=/rootfs/run/udev/data]
        securityContext:
          allowPrivilegeEscalation: false
          capabilities: {add: [SYS_TIME], drop: [ALL]}
          readOnlyRootFilesystem: true
        readinessProbe: {httpGet: {host: 127.0.0.1, port: 9100, path: /metrics}, timeoutSeconds: 30}
        volumeMounts:
        - {name: sys, mountPath: /hostsys, mountPropagation: HostToContainer, readOnly: true}
        - {name: root, mountPath: /rootfs, mountPropagation: HostToContainer, readOnly: true}
      volumes:
      - {name: sys, hostPath: {path: /sys}}
      - {name: root, hostPath: {path: /}}
`

func TestApplications(t *testing.T) {
	registry := debian.Serve(t)
	m := vm.Ready(t, vm.Config{NIC: vm.UserNetwork, YAML: "kubernetes: {}\n" + registry.YAML()})
	if out, code := m.Dactyl().Try(strings.NewReader(registry.Password+"\n"), "registry", "login", registry.Name, "--username", registry.User); code != 0 {
		t.Fatalf("dactyl registry login: exit code %d: %s", code, out)
	}
	c := m.Cluster().InPrivileged("apps") // hostPath is not for the namespaces of everybody
	for _, app := range []struct {
		debian.App
		port             int
		data, env, ready string
	}{
		{debian.Redis, 6379, "/data", "", "redis-cli ping | grep PONG"},
		{debian.Nginx, 80, "/usr/share/nginx/html", "", "wget -qO /dev/null http://127.0.0.1/ || wget -S -qO- http://127.0.0.1/ 2>&1 | grep -E '403|404'"},
		{debian.Postgres, 5432, "/var/lib/postgresql/data", "{name: POSTGRES_PASSWORD, value: secret}", "psql -U postgres -c 'SELECT 1'"},
	} {
		image := registry.Push(debian.Archive(t, app.App), app.Name)
		name, _, _ := strings.Cut(app.Name, ":")
		c.Apply(fmt.Sprintf(manifest, name, image, app.port, app.data, app.env, app.ready))
	}
	c.Apply(fmt.Sprintf(agent, registry.Push(debian.Archive(t, debian.NodeExporter), debian.NodeExporter.Name)))
	all := []string{"deploy/redis", "deploy/nginx", "deploy/postgres", "ds/node-exporter"}
	rollout(c, all)

	t.Run("answers through Services", func(t *testing.T) {
		c.Run("exec", "deploy/redis", "--", "redis-cli", "-h", "redis", "set", "greeting", "hello")
		c.Run("exec", "deploy/nginx", "--", "sh", "-c", "echo '<h1>hello</h1>' > /usr/share/nginx/html/index.html; sync")
		c.Run("exec", "deploy/postgres", "--", "sh", "-c", "PGPASSWORD=secret psql -h postgres -U postgres -c \"CREATE TABLE greetings AS SELECT 'hello' AS text\"")
		kept(t, c)
	})
	t.Run("the node exporter sees the machine", func(t *testing.T) {
		metrics := c.Run("exec", "ds/node-exporter", "--", "wget", "-qO-", "http://127.0.0.1:9100/metrics")
		for _, want := range []string{"node_memory_MemTotal_bytes ", `node_network_up{device="eth0"} 1`, `node_filesystem_size_bytes{`, "node_load1 "} {
			if !strings.Contains(metrics, want) {
				t.Errorf("the metrics lack %s", want)
			}
		}
	})
	t.Run("exec -i delivers all of its input", func(t *testing.T) { exec(t, c) })

	m.Kill()
	m.PowerOn()
	m.WaitUp()
	m.WaitReady()
	c.Config = m.Kubeconfig(t)
	rollout(c, all)
	t.Run("data survives a power cut", func(t *testing.T) { kept(t, c) })
}

func rollout(c *vm.Cluster, all []string) {
	for _, name := range all {
		c.Run("rollout", "status", name, "--timeout=10m")
	}
}

// kept asks each server, from another's pod, for what it was given.
func kept(t *testing.T, c *vm.Cluster) {
	for _, ask := range []struct{ from, command, want string }{
		{"nginx", "wget -qO- http://nginx/", "<h1>hello</h1>"},
		{"redis", "redis-cli -h redis get greeting", "hello"},
		{"postgres", "PGPASSWORD=secret psql -h postgres -U postgres -tc 'SELECT text FROM greetings'", "hello"},
	} {
		vm.Eventually(t, func() string { // after a power cut the rules of Services come with their pods
			out, err := c.Try("", "exec", "deploy/"+ask.from, "--", "sh", "-c", ask.command)
			if err != nil || strings.TrimSpace(out) != ask.want {
				return fmt.Sprintf("%s: %q, %v; want %q", ask.command, out, err, ask.want)
			}
			return ""
		})
	}
}

// exec sends files of two sizes, with and without the program's other output closed.
func exec(t *testing.T, c *vm.Cluster) {
	for _, size := range []int{1 << 20, 20 << 20} {
		text := make([]byte, size)
		rand.Read(text)
		want := fmt.Sprintf("%x", sha256.Sum256(text))
		for _, command := range []string{"cat > /tmp/in", "cat > /tmp/in 2>/dev/null"} {
			if out, err := c.Try(string(text), "exec", "-i", "deploy/redis", "--", "sh", "-c", command); err != nil {
				t.Errorf("%s, %d bytes: %v: %s", command, size, err, out)
				continue
			}
			got, err := c.Try("", "exec", "deploy/redis", "--", "sh", "-c", "cat /tmp/in")
			if err != nil || fmt.Sprintf("%x", sha256.Sum256([]byte(got))) != want || !bytes.Equal([]byte(got), text) {
				t.Errorf("%s, %d bytes: %d arrived, %v", command, size, len(got), err)
			}
		}
	}
}
