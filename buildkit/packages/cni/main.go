// Command cni is the CNI plugins of the pods' network in one program. containerd
// starts a plugin by the name that the network's configuration gives it, and a
// plugin gets its work from the environment, so the name is all there is to decide.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	// The plugins are programs, which Go does not import. The build makes packages of
	// them: see pluginPackages in ../changes.go.
	hostlocal "github.com/containernetworking/plugins/plugins/ipam/host-local"
	"github.com/containernetworking/plugins/plugins/main/bridge"
	"github.com/containernetworking/plugins/plugins/main/loopback"
	"github.com/containernetworking/plugins/plugins/meta/portmap"
)

// plugins are the names this program answers to.
var plugins = map[string]func(){
	"bridge":     bridge.Main,
	"host-local": hostlocal.Main,
	"loopback":   loopback.Main,
	"portmap":    portmap.Main,
}

func main() {
	run, ok := plugins[filepath.Base(os.Args[0])]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s: no such plugin; the names are bridge, host-local, loopback and portmap\n", os.Args[0])
		os.Exit(1)
	}
	run()
}
