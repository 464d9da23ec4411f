package render

// authentication lets nobody in without a certificate or token, but for the questions
// whether the server works.
var authentication = object{
	"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
	"anonymous": object{"enabled": true, "conditions": list{
		object{"path": "/healthz"}, object{"path": "/livez"}, object{"path": "/readyz"},
	}},
}

// admission holds pods outside kube-system to the Pod Security Standard "baseline"
// (no privileged pods, no host namespaces, paths or ports) unless a namespace's label
// says otherwise, and tells what "restricted" would object to. Events are limited
// so that a pod that fails in a loop does not fill the database.
var admission = object{
	"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
	"plugins": list{
		object{"name": "PodSecurity", "configuration": object{
			"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
			"defaults": object{
				"enforce": "baseline", "enforce-version": "latest",
				"audit": "restricted", "audit-version": "latest",
				"warn": "restricted", "warn-version": "latest",
			},
			"exemptions": object{"namespaces": list{"kube-system"}},
		}},
		object{"name": "EventRateLimit", "configuration": object{
			"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration",
			"limits": list{
				object{"type": "Server", "qps": 50, "burst": 500},
				object{"type": "Namespace", "qps": 10, "burst": 100, "cacheSize": 100},
			},
		}},
	},
}

// parts are the users that the machine's own components are. What they read, and the
// leases and states that they write every few seconds, would bury what people do.
var parts = list{
	"system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy", "system:coredns", "dactyl:kubed",
}

// sensitive are the objects that hold credentials and configuration, and the requests
// that check a credential.
var sensitive = list{
	object{"group": "", "resources": list{"secrets", "configmaps", "serviceaccounts/token"}},
	object{"group": "authentication.k8s.io", "resources": list{"tokenreviews"}},
}

// audit logs who did what to which object, never an object's content: secrets are in
// there. The first rule that fits decides. Each client that reads or lists a sensitive object is
// logged, the machine's components and nodes too; of watches of them only those of service
// accounts, because a component or a kubelet renews each of its watches every few minutes,
// and its list comes before the first.
var audit = object{
	"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
	"omitStages": list{"RequestReceived"},
	"rules": list{
		object{"level": "None", "nonResourceURLs": list{"/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*"}},
		object{"level": "Metadata", "resources": sensitive, "verbs": list{"get", "list", "create", "update", "patch", "delete", "deletecollection"}},
		object{"level": "Metadata", "resources": sensitive, "userGroups": list{"system:serviceaccounts"}},
		object{"level": "None", "users": parts, "verbs": list{"get", "list", "watch"}},
		object{"level": "None", "userGroups": list{"system:nodes", "system:serviceaccounts:kube-system"}, "verbs": list{"get", "list", "watch"}},
		object{"level": "None", "userGroups": list{"system:nodes"}, "resources": list{
			object{"group": "", "resources": list{"nodes/status", "pods/status"}},
			object{"group": "coordination.k8s.io", "resources": list{"leases"}},
		}},
		object{"level": "None", "userGroups": list{"system:authenticated"}, "resources": list{
			object{"group": "", "resources": list{"events"}}, object{"group": "events.k8s.io", "resources": list{"events"}},
		}},
		object{"level": "Metadata"},
	},
}
