package pod_lifecycle

import (
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

func TestPodLifecycle(t *testing.T) {
	Scenario(t, vm.Ready(t, vm.Config{NIC: vm.Offline, Forward: []int{vm.NodePort}}))
}
