package ephemeral_full

import (
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

func TestEphemeralFull(t *testing.T) {
	Scenario(t, vm.Ready(t, vm.Config{NIC: vm.Offline}))
}
