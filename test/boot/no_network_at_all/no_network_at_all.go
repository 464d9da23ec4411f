// Scenario no_network_at_all: a machine without a network card becomes a Ready node.
// Nobody can ask it, so its console has to say so. If it fails, some part of
// Kubernetes, or Dactyl itself, waits for a network that will never come.
package no_network_at_all

import (
	"context"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/test/vm"
)

// readyPatience is longer than WaitReady's: the machine waits for an address first.
const readyPatience = 22 * time.Minute

// Scenario starts the machine without its card, and ends it.
func Scenario(t *testing.T, c vm.Config) {
	c.NIC = vm.NoNIC
	m, err := vm.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), readyPatience)
	defer cancel()
	// Not the daemons alone: the node, and with it all of Kubernetes.
	said, err := m.Serial.WaitFor(ctx, 0, `^Kubernetes: dactyl, node (\S+) is Ready$`)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("node %s is Ready", said[1])
}
