// Package one_node runs those scenarios on one machine that leave it as they found it:
// booting a node takes longer than most of them do. The machine has no way out, so each
// of them fails if a packet tries to leave.
package one_node

import (
	"os"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/test/boot/confinement"
	"github.com/dactyl-os/dactyl/test/boot/ephemeral_full"
	"github.com/dactyl-os/dactyl/test/boot/image_load"
	"github.com/dactyl-os/dactyl/test/boot/kill_each_component"
	"github.com/dactyl-os/dactyl/test/boot/offline"
	"github.com/dactyl-os/dactyl/test/boot/pod_cannot_reach_host"
	"github.com/dactyl-os/dactyl/test/boot/pod_lifecycle"
	"github.com/dactyl-os/dactyl/test/boot/reboot_and_power_cut"
	"github.com/dactyl-os/dactyl/test/boot/replace_under_pods"
	"github.com/dactyl-os/dactyl/test/boot/usb_boot_to_ready"
	"github.com/dactyl-os/dactyl/test/vm"
)

var node = vm.Share(vm.Config{YAML: "kubernetes: {}\n", NIC: vm.Offline, MemoryMiB: 2048, Forward: []int{vm.NodePort}})

func TestMain(m *testing.M) { os.Exit(node.Run(m)) }

// The first is about the way to a Ready node, too.
func TestUSBBootToReady(t *testing.T) { usb_boot_to_ready.Scenario(t, node.Get(t)) }

func TestOffline(t *testing.T) { offline.Scenario(t, node.Get(t)) }

func TestConfinement(t *testing.T) {
	r := node.Get(t)
	r.WaitReady()
	confinement.Scenario(t, r)
}

func TestPodLifecycle(t *testing.T) { pod_lifecycle.Scenario(t, node.Get(t)) }

func TestImageLoad(t *testing.T) { image_load.Scenario(t, node.Get(t)) }

func TestPodCannotReachHost(t *testing.T) { pod_cannot_reach_host.Scenario(t, node.Get(t)) }

// Before the machine has a workload that the full disk would cost its place.
func TestEphemeralFull(t *testing.T) { ephemeral_full.Scenario(t, node.Get(t)) }

func TestKillEachComponent(t *testing.T) { kill_each_component.Scenario(t, node.Get(t)) }

func TestReplaceUnderPods(t *testing.T) { replace_under_pods.Scenario(t, node.Get(t)) }

func TestRebootAndPowerCut(t *testing.T) { reboot_and_power_cut.Scenario(t, node.Get(t)) }

// The last: pods are ended first, so it takes longer than without them; but it ends.
func TestShutdown(t *testing.T) {
	r := node.Get(t)
	if _, err := r.Machine0().Shutdown(vm.Context(t), &machine.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(vm.Context(t)); err != nil {
		t.Errorf("after Shutdown: %v", err)
	}
}
