package replace_under_pods

import (
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

func TestReplaceUnderPods(t *testing.T) {
	Scenario(t, vm.Ready(t, vm.Config{NIC: vm.Offline, Forward: []int{vm.NodePort}}))
}
