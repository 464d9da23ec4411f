package image_load

import (
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

func TestImageLoad(t *testing.T) {
	Scenario(t, vm.Ready(t, vm.Config{NIC: vm.Offline}))
}
