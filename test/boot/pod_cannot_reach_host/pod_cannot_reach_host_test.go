package pod_cannot_reach_host

import (
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

func TestPodCannotReachHost(t *testing.T) {
	Scenario(t, vm.Ready(t, vm.Config{NIC: vm.Offline}))
}
