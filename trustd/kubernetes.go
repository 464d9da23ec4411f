package main

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// adminGroup is what kubed makes cluster-admin. Unlike system:masters, which the
// API server never asks about, its rights can be taken away again.
const adminGroup = "dactyl:admins"

// wish is what the parts' certificates depend on.
type wish struct {
	node      string
	addresses []netip.Addr
	service   netip.Addr   // the API server's, in the service network
	api       subjectNames // other names of the API server
}

// A part is a program, or the pods' domain, with all that it gets in its folder.
type part struct {
	name  string
	pairs []pair
	files []file
}

// A pair is a certificate and its key, FILE.crt and FILE.key.
type pair struct {
	file string
	ca   caName
	subject
}

// A file is something else that a part reads.
type file struct {
	name    string
	content func(*identity) []byte
}

// parts is who gets what. No part gets another's key.
func parts(w wish) []part {
	return []part{
		{"etcdd", []pair{
			{"server", etcdCA, serving("etcdd", w.local())},
		}, []file{
			{"client-ca.crt", certificateOf(etcdCA)},
		}},
		{"kube-apiserver", []pair{
			{"tls", kubernetesCA, serving("kube-apiserver", w.apiserver())},
			{"etcd-client", etcdCA, client("kube-apiserver-etcd-client", "")},
			{"kubelet-client", kubernetesCA, client("kube-apiserver-kubelet-client", "dactyl:kubelet-clients")},
			{"front-proxy-client", frontProxyCA, client("front-proxy-client", "")},
		}, []file{
			{"etcd-ca.crt", certificateOf(etcdCA)},
			{"kubernetes-ca.crt", certificateOf(kubernetesCA)},
			{"kubelet-ca.crt", certificateOf(kubeletCA)},
			{"front-proxy-ca.crt", certificateOf(frontProxyCA)},
			{"sa.key", (*identity).signingKey},
			{"sa.pub", (*identity).verifyingKey},
			{"encryption.yaml", (*identity).encryptionYAML},
		}},
		{"kube-controller-manager", []pair{
			{"client", kubernetesCA, client("system:kube-controller-manager", "")},
			{"tls", kubernetesCA, serving("kube-controller-manager", byName("kube-controller-manager"))},
		}, []file{
			{"kubernetes-ca.crt", certificateOf(kubernetesCA)},
		}},
		{"kube-scheduler", []pair{
			{"client", kubernetesCA, client("system:kube-scheduler", "")},
			{"tls", kubernetesCA, serving("kube-scheduler", byName("kube-scheduler"))},
		}, []file{
			{"kubernetes-ca.crt", certificateOf(kubernetesCA)},
		}},
		{"coredns", []pair{
			{"client", kubernetesCA, client("system:coredns", "")},
		}, []file{
			{"kubernetes-ca.crt", certificateOf(kubernetesCA)},
		}},
		{"pods", []pair{
			{"kubelet-client", kubernetesCA, client("system:node:"+w.node, "system:nodes")},
			// The API server alone trusts the CA of this one: an attacker in the pods' domain has its
			// key, and may redirect the API server's port in the machine's network.
			{"kubelet-server", kubeletCA, serving(w.node, w.kubelet())},
			{"kube-proxy", kubernetesCA, client("system:kube-proxy", "")},
		}, []file{
			{"kubernetes-ca.crt", certificateOf(kubernetesCA)},
		}},
		{"kubed", []pair{
			// The first who comes to a new cluster makes the bindings by which all others
			// get their rights, so it must be of the one group that needs none.
			{"client", kubernetesCA, client("dactyl:kubed", "system:masters")},
		}, []file{
			{"kubernetes-ca.crt", certificateOf(kubernetesCA)},
		}},
	}
}

func serving(name string, names subjectNames) subject {
	return subject{name: name, usage: x509.ExtKeyUsageServerAuth, names: names}
}

func client(name, group string) subject {
	return subject{name: name, group: group, usage: x509.ExtKeyUsageClientAuth}
}

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// local is what only the machine itself calls.
func (w wish) local() subjectNames {
	return subjectNames{dns: []string{"localhost"}, addresses: []netip.Addr{loopback4, loopback6}}
}

// byName is the name of a program that only kubed calls, which asks for it by that name: no
// client of the API server takes such a certificate for the API server's.
func byName(program string) subjectNames { return subjectNames{dns: []string{program}} }

// apiServerNames are those of the API server alone. A machine may have one of them as its
// own name, and is then reached by its addresses.
var apiServerNames = []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}

// kubelet is what the API server calls: the node's addresses. Names that the kubelet's CA
// excludes are left out.
func (w wish) kubelet() subjectNames {
	var n subjectNames
	excluded := func(name string) bool { return w.node == name || strings.HasSuffix(w.node, "."+name) }
	if !excluded("localhost") && !slices.ContainsFunc(apiServerNames, excluded) {
		n.dns = []string{w.node}
	}
	for _, a := range w.addresses {
		if !a.IsLoopback() {
			n.addresses = append(n.addresses, a)
		}
	}
	return n.sorted()
}

func (w wish) apiserver() subjectNames {
	n := w.local()
	n.dns = append(n.dns, w.node)
	n.dns = append(n.dns, apiServerNames...)
	n.dns = append(n.dns, w.api.dns...)
	n.addresses = append(n.addresses, w.addresses...)
	n.addresses = append(n.addresses, w.service)
	n.addresses = append(n.addresses, w.api.addresses...)
	return n.sorted()
}

// newWish reads what kubed asks for.
func newWish(node string, addresses []string, serviceNetwork string, apiNames []string) (wish, error) {
	if !isHostName(node) || node != strings.ToLower(node) {
		return wish{}, status.Errorf(codes.InvalidArgument, "node: %q cannot be a node's name: lower-case letters, digits, - and . as RFC 1123 has it", node)
	}
	w := wish{node: node}
	for _, a := range addresses {
		ip, err := netip.ParseAddr(a)
		if err != nil || ip.Zone() != "" {
			return wish{}, status.Errorf(codes.InvalidArgument, "addresses: %q is not an IP address", a)
		}
		w.addresses = append(w.addresses, ip.Unmap())
	}
	p, err := netip.ParsePrefix(serviceNetwork)
	if err != nil || p.IsSingleIP() {
		return wish{}, status.Errorf(codes.InvalidArgument, "service_network: %q is not a network as 10.96.0.0/16", serviceNetwork)
	}
	w.service = p.Masked().Addr().Next()
	for _, n := range apiNames {
		if ip, err := netip.ParseAddr(n); err == nil && ip.Zone() == "" {
			w.api.addresses = append(w.api.addresses, ip.Unmap())
		} else if isHostName(n) {
			w.api.dns = append(w.api.dns, strings.ToLower(n))
		} else {
			return wish{}, status.Errorf(codes.InvalidArgument, "api_names: %q is neither a DNS name nor an IP address", n)
		}
	}
	if n := len(addresses) + len(apiNames); n > maxNames {
		return wish{}, status.Errorf(codes.InvalidArgument, "addresses, api_names: %d of them, at most %d", n, maxNames)
	}
	return w, nil
}

// subjectOf reads from a certificate what sign wrote.
func subjectOf(c *x509.Certificate) subject {
	s := subject{name: c.Subject.CommonName, group: strings.Join(c.Subject.Organization, ","), usage: x509.ExtKeyUsageClientAuth}
	if isServer(c) {
		s.usage = x509.ExtKeyUsageServerAuth
	}
	s.names.dns = c.DNSNames
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			s.names.addresses = append(s.names.addresses, a.Unmap())
		}
	}
	return s
}

// same compares without regard to order: a link that comes up first does not matter.
func (s subject) same(o subject) bool {
	x, y := s.names.sorted(), o.names.sorted()
	return s.name == o.name && s.group == o.group && s.usage == o.usage &&
		slices.Equal(x.dns, y.dns) && slices.Equal(x.addresses, y.addresses)
}

// sorted returns each name once.
func (n subjectNames) sorted() subjectNames {
	dns, addresses := slices.Clone(n.dns), slices.Clone(n.addresses)
	slices.Sort(dns)
	slices.SortFunc(addresses, netip.Addr.Compare)
	return subjectNames{slices.Compact(dns), slices.Compact(addresses)}
}
