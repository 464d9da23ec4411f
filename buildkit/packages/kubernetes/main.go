// Command kubernetes is every Kubernetes component of a node, containerd and CoreDNS in
// one program. The name it is started under says which of them it is, as in busybox:
// they share most of their code, and one copy of it is a third of the size of seven.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	_ "github.com/dactyl-os/dactyl/buildkit/packages/kubernetes/collector" // collects less garbage while a component starts
)

// components are the names this program answers to. Each runs until it is told to
// stop and returns its exit code.
var components = map[string]func() int{
	"kube-apiserver":          apiserver,
	"kube-controller-manager": controllerManager,
	"kube-scheduler":          scheduler,
	"kube-proxy":              proxy,
	"kubelet":                 kubelet,
	"coredns":                 coredns,
	"containerd":              containerd,
}

func main() {
	name := filepath.Base(os.Args[0])
	run, ok := components[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s: no such component; start it under one of these names:\n", os.Args[0])
		for _, name := range names() {
			fmt.Fprintln(os.Stderr, "  "+name)
		}
		os.Exit(100) // misconfigured, as daemons/abi defines it: a restart would not help
	}
	if name != "coredns" {
		dropCorednsFlags()
	}
	os.Exit(run())
}

func names() []string {
	var all []string
	for name := range components {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
