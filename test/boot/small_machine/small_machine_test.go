// Scenario small_machine: with one processor and 1 GiB of memory, a machine becomes a
// Ready node and runs a pod; what is left for more is printed. If it fails, the
// machines that Dactyl is for are too small for it.
package small_machine

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/test/vm"
)

// leastForPods is what a machine of 1 GiB has to leave for pods to be of use, in MiB.
const leastForPods = 200

func TestSmallMachine(t *testing.T) {
	r := vm.Boot(t, vm.Config{YAML: "kubernetes: {}\n", CPUs: 1, MemoryMiB: 1024})
	r.WaitReady()
	c := r.Cluster().In("small")
	r.LoadImage(vm.TestImage(t))
	c.Run("run", "hello", "--image="+vm.TestImageName)
	c.Run("wait", "--for=condition=Ready", "--timeout=4m", "pod/hello")

	status, err := r.Kube().GetStatus(vm.Context(t), &kube.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range status.Components {
		if part.Restarts > 0 {
			t.Errorf("%s has been restarted %d times: %s", part.Name, part.Restarts, part.Reason)
		}
	}
	if pressure := c.Run("get", "nodes", "-o", `jsonpath={.items[0].status.conditions[?(@.type=="MemoryPressure")].status}`); pressure != "False" {
		t.Errorf("memory pressure: %s", pressure)
	}

	available := memory(t, r, "MemAvailable")
	allocatable := c.Run("get", "nodes", "-o", `jsonpath={.items[0].status.allocatable.memory}`)
	kib, err := strconv.Atoi(strings.TrimSuffix(allocatable, "Ki"))
	if err != nil {
		t.Fatalf("allocatable memory %q: %v", allocatable, err)
	}
	t.Logf("of %d MiB, %d MiB are available with one pod running; pods may have %d MiB", memory(t, r, "MemTotal"), available, kib>>10)
	if kib>>10 < leastForPods {
		t.Errorf("pods may have %d MiB: want %d", kib>>10, leastForPods)
	}
	if available < leastForPods {
		t.Errorf("%d MiB are available: want %d, as more is promised to pods", available, leastForPods)
	}
}

// memory returns a figure of /proc/meminfo in MiB.
func memory(t *testing.T, r *vm.Running, name string) int {
	t.Helper()
	f, err := probe.NewClient(r.Admin).ReadFile(vm.Context(t), &probe.ReadFileRequest{Path: "/proc/meminfo"})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(f.Content)) {
		var kib int
		if _, err := fmt.Sscanf(line, name+": %d kB", &kib); err == nil {
			return kib >> 10
		}
	}
	t.Fatalf("no %s in /proc/meminfo", name)
	return 0
}
