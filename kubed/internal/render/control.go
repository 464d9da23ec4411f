package render

import "strconv"

// absentControllers are those that need a key which the controller-manager does not
// get: certificates come from trustd, and tokens from the API server (TokenRequest),
// not as Secrets that never end.
const absentControllers = "*,-serviceaccount-token-controller,-certificatesigningrequest-signing-controller,-certificatesigningrequest-approving-controller"

func controllerManager(n Node) *draft {
	d := newDraft("kube-controller-manager", "kube-controller-manager")
	d.server(n, 10257)
	d.fix("controllers", absentControllers)
	// Each controller is an account with its own rights; the program's own are too few for any.
	d.fix("use-service-account-credentials", "true")
	d.fix("root-ca-file", d.key("kubernetes-ca.crt"))
	// Empty: the API server signs tokens, with a key pair of their own. Given a key, this
	// program would make tokens that never end.
	d.fix("service-account-private-key-file", "")
	d.fix("cluster-name", n.Cluster)
	d.fix("allocate-node-cidrs", "false") // kubed gives the node its range: the one that the pods' network has
	d.fix("service-cluster-ip-range", n.ServiceNetwork.Masked().String())
	d.set("terminated-pod-gc-threshold", "100")
	return d
}

func scheduler(n Node) *draft {
	d := newDraft("kube-scheduler", "kube-scheduler")
	d.server(n, 10259)
	return d
}

// server sets what both have: where they are asked, by whom, and who they are.
func (d *draft) server(n Node, port int) {
	config := d.kubeconfig(n, "kubeconfig.json", "client")
	d.fix("kubeconfig", config)
	d.fix("authentication-kubeconfig", config)
	d.fix("authorization-kubeconfig", config)
	d.fix("bind-address", "127.0.0.1")
	d.fix("secure-port", strconv.Itoa(port))
	d.fix("tls-cert-file", d.key("tls.crt"))
	d.fix("tls-private-key-file", d.key("tls.key"))
	d.fix("tls-min-version", "VersionTLS13")
	d.fix("client-ca-file", d.key("kubernetes-ca.crt"))
	// The only one of its kind has nobody to agree with. It starts without waiting for
	// a lease to end, and does not write one to the disk every two seconds.
	d.set("leader-elect", "false")
	d.fix("profiling", "false")
}
