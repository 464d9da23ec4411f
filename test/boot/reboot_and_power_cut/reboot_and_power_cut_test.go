package reboot_and_power_cut

import (
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

func TestRebootAndPowerCut(t *testing.T) {
	Scenario(t, vm.Ready(t, vm.Config{NIC: vm.Offline, Forward: []int{vm.NodePort}}))
}
