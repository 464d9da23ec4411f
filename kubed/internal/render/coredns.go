package render

import (
	"fmt"
	"strings"
)

func coredns(n Node) *draft {
	d := newDraft("coredns", "coredns")
	config := d.kubeconfig(n, "kubeconfig.json", "client")
	d.Args = []string{"-conf", d.file("Corefile", corefile(n, config))}
	return d
}

// corefile answers the cluster's names itself and asks the node's name servers for
// all others. Only pods reach LocalAddress: a name server that the whole network can
// ask would be of use to those who attack others with its answers.
func corefile(n Node, kubeconfig string) string {
	var servers []string
	for _, r := range n.Resolvers {
		servers = append(servers, r.String())
	}
	// Without a name server these names cannot be resolved. CoreDNS answers at once that
	// they do not exist: after an error, a program asks again for seconds. The answer has no
	// SOA record, so no cache keeps it for the time when there is a name server.
	others := "    template ANY ANY . {\n        rcode NXDOMAIN\n    }\n"
	if len(servers) > 0 {
		others = "    forward . " + strings.Join(servers, " ") + "\n"
	}
	return fmt.Sprintf(`.:%d {
    bind %s
    errors
    ready 127.0.0.1:8181
    loadbalance
    cache 30
    kubernetes %s in-addr.arpa ip6.arpa {
        kubeconfig %s
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
%s}
`, dnsPort, LocalAddress, clusterDomain, kubeconfig, others)
}
