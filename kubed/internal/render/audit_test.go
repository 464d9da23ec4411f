package render

import (
	"slices"
	"strings"
	"testing"
)

// request is what a rule of an audit policy looks at.
type request struct {
	user   string
	groups []string
	verb   string
	group  string // of the API
	kind   string // resource, or resource/subresource
	path   string // of what is no resource
}

// levelOf decides as the API server does (k8s.io/apiserver, pkg/audit/policy): the first rule
// that fits.
func levelOf(r request) string {
	for _, rule := range audit["rules"].(list) {
		if rule := rule.(object); fits(rule, r) {
			return rule["level"].(string)
		}
	}
	return "None"
}

func fits(rule object, r request) bool {
	names := func(key string) []string {
		var out []string
		l, _ := rule[key].(list)
		for _, v := range l {
			out = append(out, v.(string))
		}
		return out
	}
	among := func(allowed []string, any ...string) bool {
		return len(allowed) == 0 || slices.ContainsFunc(any, func(s string) bool { return slices.Contains(allowed, s) })
	}
	if !among(names("users"), r.user) || !among(names("userGroups"), r.groups...) || !among(names("verbs"), r.verb) {
		return false
	}
	if paths := names("nonResourceURLs"); len(paths) > 0 {
		return r.path != "" && slices.ContainsFunc(paths, func(p string) bool {
			before, all := strings.CutSuffix(p, "*")
			return p == r.path || all && strings.HasPrefix(r.path, before)
		})
	}
	resources, limited := rule["resources"].(list)
	if !limited {
		return true
	}
	return r.path == "" && slices.ContainsFunc(resources, func(v any) bool {
		of := v.(object)
		return of["group"] == r.group && slices.Contains(of["resources"].(list), any(r.kind))
	})
}

// Each client that reads a Secret or a ConfigMap, or has a token checked, is in the log; what
// the machine's own components read otherwise is not.
func TestAudit(t *testing.T) {
	everybody := []string{"system:authenticated"}
	addon := request{user: "system:serviceaccount:kube-system:addon", groups: append([]string{"system:serviceaccounts", "system:serviceaccounts:kube-system"}, everybody...)}
	node := request{user: "system:node:edge1", groups: append([]string{"system:nodes"}, everybody...)}
	manager := request{user: "system:kube-controller-manager", groups: everybody}
	person := request{user: "alice", groups: append([]string{"dactyl:admins"}, everybody...)}
	of := func(who request, verb, group, kind string) request {
		who.verb, who.group, who.kind = verb, group, kind
		return who
	}
	for _, who := range []request{addon, node, manager, person} {
		for _, kind := range []string{"secrets", "configmaps"} {
			for _, verb := range []string{"get", "list", "create", "update", "delete"} {
				if got := levelOf(of(who, verb, "", kind)); got != "Metadata" {
					t.Errorf("%s %s %s: %s", who.user, verb, kind, got)
				}
			}
		}
		if got := levelOf(of(who, "create", "authentication.k8s.io", "tokenreviews")); got != "Metadata" {
			t.Errorf("%s has a token checked: %s", who.user, got)
		}
	}
	for _, c := range []struct {
		request
		want string
	}{
		{of(addon, "watch", "", "secrets"), "Metadata"},
		{of(addon, "watch", "", "configmaps"), "Metadata"},
		{of(person, "watch", "", "secrets"), "Metadata"},
		{of(addon, "list", "", "pods"), "None"},
		{of(node, "watch", "", "configmaps"), "None"},
		{of(node, "update", "", "nodes/status"), "None"},
		{of(manager, "watch", "", "secrets"), "None"},
		{of(manager, "list", "apps", "deployments"), "None"},
		{of(person, "list", "", "pods"), "Metadata"},
		{of(person, "create", "", "events"), "None"},
		{request{user: "system:anonymous", verb: "get", path: "/readyz"}, "None"},
		{request{user: "alice", groups: everybody, verb: "get", path: "/metrics"}, "Metadata"},
	} {
		if got := levelOf(c.request); got != c.want {
			t.Errorf("%s %s %s%s: %s, want %s", c.user, c.verb, c.kind, c.path, got, c.want)
		}
	}
	for _, rule := range audit["rules"].(list) { // no level that logs contents
		if l := rule.(object)["level"]; l != "None" && l != "Metadata" {
			t.Errorf("level %v", l)
		}
	}
}
