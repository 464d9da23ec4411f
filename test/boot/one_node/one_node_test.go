// Package one_node runs those scenarios on one machine that leave it as they found it:
// booting a node takes longer than most of them do.
package one_node

import (
	"os"
	"testing"

	"github.com/dactyl-os/dactyl/test/boot/ephemeral_full"
	"github.com/dactyl-os/dactyl/test/boot/image_load"
	"github.com/dactyl-os/dactyl/test/boot/kill_each_component"
	"github.com/dactyl-os/dactyl/test/boot/pod_cannot_reach_host"
	"github.com/dactyl-os/dactyl/test/boot/pod_lifecycle"
	"github.com/dactyl-os/dactyl/test/boot/replace_under_pods"
	"github.com/dactyl-os/dactyl/test/vm"
)

var node = vm.Share(vm.Config{YAML: "kubernetes: {}\n", MemoryMiB: 2048, Forward: []int{vm.NodePort}})

func TestMain(m *testing.M) { os.Exit(node.Run(m)) }

func TestPodLifecycle(t *testing.T) { pod_lifecycle.Scenario(t, node.Get(t)) }

func TestImageLoad(t *testing.T) { image_load.Scenario(t, node.Get(t)) }

func TestPodCannotReachHost(t *testing.T) { pod_cannot_reach_host.Scenario(t, node.Get(t)) }

func TestKillEachComponent(t *testing.T) { kill_each_component.Scenario(t, node.Get(t)) }

func TestReplaceUnderPods(t *testing.T) { replace_under_pods.Scenario(t, node.Get(t)) }

func TestEphemeralFull(t *testing.T) { ephemeral_full.Scenario(t, node.Get(t)) }
