package render

import "strconv"

// strongCiphers are suites of TLS 1.2 that CIS calls strong, for clients that do not
// have 1.3 yet: pods can be of any age. 1.3 has no others.
const strongCiphers = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384," +
	"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"

// issuer is in every token of a service account; it is a name, nobody resolves it.
const issuer = "https://kubernetes.default.svc." + clusterDomain

func apiserver(n Node) *draft {
	d := newDraft("kube-apiserver", "kube-apiserver")
	d.fix("advertise-address", n.Address.String())
	d.fix("secure-port", strconv.Itoa(APIPort))
	d.fix("tls-cert-file", d.key("tls.crt"))
	d.fix("tls-private-key-file", d.key("tls.key"))
	d.fix("tls-min-version", "VersionTLS12")
	d.fix("tls-cipher-suites", strongCiphers)

	// Who is there, and what they may do.
	d.fix("client-ca-file", d.key("kubernetes-ca.crt"))
	d.fix("authentication-config", d.file("authentication.json", asJSON(authentication)))
	d.fix("authorization-mode", "Node,RBAC")
	d.fix("admission-control-config-file", d.file("admission.json", asJSON(admission)))
	d.fix("enable-admission-plugins", "NodeRestriction,EventRateLimit,DenyServiceExternalIPs")
	d.fix("allow-privileged", "true") // outside kube-system, Pod Security says no
	d.fix("service-account-issuer", issuer)
	d.fix("service-account-key-file", d.key("sa.pub"))
	d.fix("service-account-signing-key-file", d.key("sa.key"))
	d.fix("service-account-lookup", "true") // a deleted account's token ends with it
	d.fix("service-account-extend-token-expiration", "false")

	// What is kept, and who did what.
	d.fix("etcd-servers", "https://127.0.0.1:2379")
	d.fix("etcd-cafile", d.key("etcd-ca.crt"))
	d.fix("etcd-certfile", d.key("etcd-client.crt"))
	d.fix("etcd-keyfile", d.key("etcd-client.key"))
	d.fix("encryption-provider-config", d.key("encryption.yaml"))
	d.fix("audit-policy-file", d.file("audit.json", asJSON(audit)))
	d.fix("audit-log-path", "/var/log/kubernetes/audit.log")
	d.set("audit-log-maxage", "30") // days
	d.set("audit-log-maxbackup", "10")
	d.set("audit-log-maxsize", "100") // MB, in the file being written; full ones shrink to a twentieth
	d.set("audit-log-compress", "true")
	d.set("event-ttl", "1h")

	// Other servers: kubelets, and APIs that are added to this one.
	d.fix("kubelet-certificate-authority", d.key("kubelet-ca.crt")) // which signs nothing but kubelets' serving certificates
	d.fix("kubelet-client-certificate", d.key("kubelet-client.crt"))
	d.fix("kubelet-client-key", d.key("kubelet-client.key"))
	d.fix("kubelet-preferred-address-types", "InternalIP") // nobody resolves a node's name
	d.fix("proxy-client-cert-file", d.key("front-proxy-client.crt"))
	d.fix("proxy-client-key-file", d.key("front-proxy-client.key"))
	d.fix("requestheader-client-ca-file", d.key("front-proxy-ca.crt"))
	d.fix("requestheader-allowed-names", "front-proxy-client")
	d.fix("requestheader-username-headers", "X-Remote-User")
	d.fix("requestheader-uid-headers", "X-Remote-Uid")
	d.fix("requestheader-group-headers", "X-Remote-Group")
	d.fix("requestheader-extra-headers-prefix", "X-Remote-Extra-")
	d.fix("enable-aggregator-routing", "true") // straight to pods: a machine without a route has none to a ClusterIP

	d.fix("service-cluster-ip-range", n.ServiceNetwork.Masked().String())

	// A small machine: fewer requests at a time than the 600 of a large one, and no
	// questions to etcd for figures that nobody reads.
	d.set("max-requests-inflight", "200")
	d.set("max-mutating-requests-inflight", "100")
	d.set("etcd-count-metric-poll-period", "0")
	d.set("etcd-db-metric-poll-interval", "0")
	d.fix("profiling", "false")
	return d
}
