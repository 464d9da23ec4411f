package render

// Object is something that every cluster has, by server-side apply: what stands here
// is set, everything else of the object is left as it is.
type Object struct {
	Path string // in the API
	Body string // JSON
}

// Admins is the group of those whom trustd certifies as administrators.
const Admins = "dactyl:admins"

// Objects are who may do what, the cluster's name server, and a warning.
func Objects(n Node) []Object {
	return append([]Object{
		// The binding that every cluster has already, with one group more: so all that is
		// cluster-admin is in one place. Server-side apply sets this list as a whole.
		binding("cluster-admin", "cluster-admin", group("system:masters"), group(Admins)),
		// The API server asks the kubelet for logs and sessions.
		binding("dactyl:kubelet-clients", "system:kubelet-api-admin", group("dactyl:kubelet-clients")),
		rbac("clusterroles", "dactyl:coredns", object{"kind": "ClusterRole", "rules": list{
			object{"apiGroups": list{""}, "resources": list{"services", "pods", "namespaces"}, "verbs": list{"list", "watch"}},
			object{"apiGroups": list{"discovery.k8s.io"}, "resources": list{"endpointslices"}, "verbs": list{"list", "watch"}},
		}}),
		binding("dactyl:coredns", "dactyl:coredns", object{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "system:coredns"}),
		applied("/api/v1/namespaces/kube-system/services/kube-dns", object{
			"apiVersion": "v1", "kind": "Service",
			"metadata": object{"name": "kube-dns", "namespace": "kube-system", "labels": object{"kubernetes.io/name": "CoreDNS"}},
			"spec": object{
				"clusterIP": n.dnsAddress().String(),
				"ports":     list{dnsPortOf("dns", "UDP", 53), dnsPortOf("dns-tcp", "TCP", 53)},
			},
		}),
		// CoreDNS is no pod, so nothing selects it.
		applied("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns", object{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
			"metadata": object{"name": "kube-dns", "namespace": "kube-system", "labels": object{
				"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "kubed.dactyl-os.github.com",
			}},
			"addressType": "IPv4",
			"endpoints":   list{object{"addresses": list{LocalAddress}, "conditions": object{"ready": true}}},
			"ports": list{
				object{"name": "dns", "protocol": "UDP", "port": dnsPort},
				object{"name": "dns-tcp", "protocol": "TCP", "port": dnsPort},
			},
		}),
	}, hostPathWarning()...)
}

// NodeLabels are those that a kubelet may not give itself.
var NodeLabels = map[string]string{"node-role.kubernetes.io/control-plane": ""}

func dnsPortOf(name, protocol string, port int) object {
	return object{"name": name, "protocol": protocol, "port": port, "targetPort": dnsPort}
}

func group(name string) object {
	return object{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name}
}

func binding(name, role string, subjects ...any) Object {
	return rbac("clusterrolebindings", name, object{
		"kind":     "ClusterRoleBinding",
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
		"subjects": subjects,
	})
}

func rbac(kind, name string, o object) Object {
	o["apiVersion"] = "rbac.authorization.k8s.io/v1"
	o["metadata"] = object{"name": name}
	return applied("/apis/rbac.authorization.k8s.io/v1/"+kind+"/"+name, o)
}

func applied(path string, o object) Object { return Object{path, asJSON(o)} }
