package kill_each_component

import (
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

func TestKillEachComponent(t *testing.T) {
	Scenario(t, vm.Ready(t, vm.Config{NIC: vm.Offline, Forward: []int{vm.NodePort}}))
}
