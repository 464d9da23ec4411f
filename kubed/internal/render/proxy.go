package render

func proxy(n Node) *draft {
	d := newDraft("kube-proxy", domain)
	// It ignores all other flags beside --config, cluster.yaml's too: so none.
	d.fix("kubeconfig", d.kubeconfig(n, "kube-proxy-kubeconfig.json", "kube-proxy"))
	d.fix("hostname-override", n.Name)
	d.fix("proxy-mode", "nftables")
	d.fix("cluster-cidr", n.PodNetwork.Masked().String())
	d.fix("healthz-bind-address", "127.0.0.1:10256")
	d.fix("metrics-bind-address", "127.0.0.1:10249")
	// 0 leaves connection tracking as PID 1 has set it: sizes and timeouts have one owner,
	// and kube-proxy needs no right to write sysctls of the machine.
	d.fix("conntrack-max-per-core", "0")
	d.fix("conntrack-min", "0")
	d.fix("conntrack-tcp-timeout-established", "0s")
	d.fix("conntrack-tcp-timeout-close-wait", "0s")
	d.fix("conntrack-udp-timeout", "0s")
	d.fix("conntrack-udp-timeout-stream", "0s")
	d.fix("profiling", "false")
	return d
}
