package render

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// TestPortsAreTheMachines: networkd keeps the ports in abi.Ports for the machine. A
// component's port that is not there could be taken by a pod's hostPort.
func TestPortsAreTheMachines(t *testing.T) {
	all, err := Programs(home())
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`127\.0\.0\.1:(\d+)|-port=(\d+)|"\w*[pP]ort": ?(\d+)`)
	found := map[uint16]bool{}
	for _, p := range all {
		for _, m := range used.FindAllStringSubmatch(story(p), -1) {
			n, err := strconv.ParseUint(m[1]+m[2]+m[3], 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 { // turned off
				continue
			}
			found[uint16(n)] = true
			if !slices.ContainsFunc(abi.Ports, func(a abi.Port) bool { return a.Number == uint16(n) }) {
				t.Errorf("%s: %s: not in abi.Ports, by which networkd keeps it for the machine", p.Name, m[0])
			}
		}
	}
	for _, a := range abi.Ports {
		if !found[a.Number] && a.Number != abi.GatewayPort && a.Number != abi.KubeletPort { // neither is rendered: routerd's, and the kubelet's default
			t.Errorf("no component uses port %s of abi.Ports", fmt.Sprint(a.Number))
		}
	}
	if APIPort != abi.KubernetesPort || LocalAddress != abi.SelfAddress || dnsPort != abi.SelfDNSPort {
		t.Error("abi has other values than render")
	}
}
