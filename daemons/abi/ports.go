package abi

// A Port is a TCP port on which a part of the machine itself listens. networkd keeps
// these ports for the machine, and configd refuses a NodePort range that contains one.
type Port struct {
	Number uint16
	Part   string // daemon or component
	// Local says that the part listens on 127.0.0.1 only.
	Local bool
}

const (
	// GatewayPort is the API's.
	GatewayPort = 7400
	// KubernetesPort is kube-apiserver's.
	KubernetesPort = 6443
	// KubeletPort is the kubelet's.
	KubeletPort = 10250

	// SelfAddress is on every machine's loopback link and on no network (RFC 7600's
	// dummy address): networkd sets it, CoreDNS answers there for pods.
	SelfAddress = "192.0.0.8"
	// SelfDNSPort is CoreDNS's port there, over UDP and TCP.
	SelfDNSPort = 5353
)

// Ports are all of them.
var Ports = []Port{
	{GatewayPort, "routerd", false},
	{KubernetesPort, "kube-apiserver", false},
	{KubeletPort, "kubelet", false},
	{2379, "etcdd", true},
	{8181, "coredns", true},
	{10248, "kubelet", true},
	{10249, "kube-proxy", true},
	{10256, "kube-proxy", true},
	{10257, "kube-controller-manager", true},
	{10259, "kube-scheduler", true},
}
