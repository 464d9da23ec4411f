package native

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/test/vm"
)

// controlPlane are the components that need nothing which a build machine may lack:
// the pods' domain and the kubelet need cgroups of version 2 alone, and devices.
var controlPlane = []string{"etcdd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns"}

// The control plane becomes healthy behind all its walls, with the keys that trustd
// makes and the configuration that kubed writes; a new kubed leaves it alone.
func TestControlPlane(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may make namespaces with devices and mounts")
	}
	root := filepath.Join(t.TempDir(), "root")
	if out, err := exec.Command("cp", "-al", staged, root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(root, "boot/cluster.yaml"), []byte("hostname: edge1\nkubernetes: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	m, err := Start(context.WithoutCancel(t.Context()), root, &log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			explain(t, m)
		}
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("init said:\n%s", &log)
		}
	})
	admin := claim(t, m)
	begin := time.Now()
	first := waitHealthy(t, m, admin)
	t.Logf("healthy after %v", time.Since(begin).Round(100*time.Millisecond))

	if _, err := machine.NewClient(admin).RestartDaemon(bounded(t), &machine.RestartDaemonRequest{Name: "kubed"}); err != nil {
		t.Fatal(err)
	}
	then := waitHealthy(t, m, admin)
	for _, name := range controlPlane {
		if then[name] != first[name] {
			t.Errorf("%s was restarted with kubed: process %d, before %d", name, then[name], first[name])
		}
	}
}

// waitHealthy waits until the control plane is, and returns its processes.
func waitHealthy(t *testing.T, m *Machine, admin *vm.Conn) map[string]int32 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for {
		s, err := kube.NewClient(admin).GetStatus(ctx, &kube.GetStatusRequest{})
		pids := map[string]int32{}
		for _, c := range s.GetComponents() {
			if c.Healthy {
				pids[c.Name] = c.Pid
			}
		}
		healthy := 0
		for _, name := range controlPlane {
			if pids[name] != 0 {
				healthy++
			}
		}
		if healthy == len(controlPlane) {
			return pids
		}
		if !m.pause(ctx) {
			t.Fatalf("%v, %v", s, err)
		}
	}
}
