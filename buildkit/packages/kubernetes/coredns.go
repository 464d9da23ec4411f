package main

import (
	"flag"
	"os"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	// What the Corefile of every Kubernetes distribution uses, and no plugin that
	// needs a cloud, a file or a second protocol.
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"

	// Answers for a machine without a name server.
	_ "github.com/coredns/coredns/plugin/template"
)

// directives are the plugins in the order in which a question passes them, which is
// CoreDNS's own: the Corefile's order does not count.
var directives = []string{
	"bind", "ready", "health", "prometheus", "errors", "log",
	"loadbalance", "cache", "hosts", "kubernetes", "loop", "forward",
	"template", // last: it answers what nothing before it has answered
}

func coredns() int {
	dnsserver.Directives = directives
	coremain.Run() // ends the process on a signal
	return 0
}

// corednsFlags are what CoreDNS adds to the flags of any program it is linked into.
var corednsFlags = []string{"conf", "dns.port", "p", "pidfile", "plugins", "quiet", "version"}

// dropCorednsFlags takes them away again: kube-proxy makes every flag that there is one
// of its own, and has --version already.
func dropCorednsFlags() {
	kept := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	flag.VisitAll(func(f *flag.Flag) {
		if !slices.Contains(corednsFlags, f.Name) {
			kept.Var(f.Value, f.Name, f.Usage)
		}
	})
	flag.CommandLine = kept
}
