package render

import "strings"

// DataDir is the place on the disk for what pods keep by hostPath.
const DataDir = "/var/mnt"

// writable are the paths, each with all below it, that a pod may mount to write without
// a word: the place for data; those that agents of a node write to; and what is no
// storage anywhere.
var writable = []string{
	DataDir,
	"/var/lib/kubelet", "/var/log/pods", "/var/log/containers", // agents: storage drivers, log collectors
	"/etc/cni/net.d", "/opt/cni/bin", // network agents put their programs there at each start
	"/dev", "/proc", "/sys", "/run", "/tmp",
}

// hostPathWarning is a policy by which the API server warns a person who applies a
// manifest whose pods would write to a hostPath that does not last. It refuses nothing. A
// read-only mount, as monitoring agents have of /proc, /sys and /, gets no warning. A path
// that cannot be made fails in the pod's events.
func hostPathWarning() []Object {
	const name = "dactyl-host-paths"
	path := func(kind string) string { return "/apis/admissionregistration.k8s.io/v1/" + kind + "/" + name }
	rule := func(group string, resources ...any) object {
		return object{"apiGroups": list{group}, "apiVersions": list{"*"}, "operations": list{"CREATE", "UPDATE"}, "resources": resources}
	}
	return []Object{
		applied(path("validatingadmissionpolicies"), object{
			"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
			"metadata": object{"name": name},
			"spec": object{
				"failurePolicy": "Ignore", // a warning is no reason to refuse anything
				"matchConstraints": object{"resourceRules": list{
					rule("", "pods", "replicationcontrollers"),
					rule("apps", "daemonsets", "deployments", "replicasets", "statefulsets"),
					rule("batch", "cronjobs", "jobs"),
				}},
				"variables": list{
					variable("pod", "has(object.spec.jobTemplate) ? object.spec.jobTemplate.spec.template.spec : has(object.spec.template) ? object.spec.template.spec : object.spec"),
					variable("containers", "variables.pod.containers + (has(variables.pod.initContainers) ? variables.pod.initContainers : [])"),
					variable("writable", "['"+strings.Join(writable, "', '")+"']"),
					variable("lost", "has(variables.pod.volumes) ? variables.pod.volumes.filter(v, has(v.hostPath)"+
						" && !variables.writable.exists(p, v.hostPath.path == p || v.hostPath.path.startsWith(p + '/'))"+
						" && variables.containers.exists(c, has(c.volumeMounts) && c.volumeMounts.exists(m, m.name == v.name && !(has(m.readOnly) && m.readOnly)))"+
						").map(v, v.hostPath.path) : []"),
				},
				"validations": list{object{
					"expression": "variables.lost.size() == 0",
					"messageExpression": "'hostPath ' + variables.lost.join(', ') + ': what a pod writes there is lost when the machine starts again, or cannot be written. " +
						"Data that is to stay goes below " + DataDir + "; a mount that is only read has readOnly: true'",
				}},
			},
		}),
		applied(path("validatingadmissionpolicybindings"), object{
			"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
			"metadata": object{"name": name},
			"spec":     object{"policyName": name, "validationActions": list{"Warn"}},
		}),
	}
}

func variable(name, expression string) object {
	return object{"name": name, "expression": expression}
}
