package confinement

import (
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

func TestWallsAreAsPromised(t *testing.T) { Scenario(t, vm.Boot(t, vm.Config{})) }
