package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// flag is one flag of a component. fixed says that cluster.yaml cannot change it.
type flag struct {
	name, value string
	fixed       bool
}

// fix adds a flag that the component's confinement or its place among the others rests on.
func (d *draft) fix(name, value string) {
	d.flags = append(d.flags, flag{name, value, true})
}

// set adds a flag that cluster.yaml may change.
func (d *draft) set(name, value string) {
	d.flags = append(d.flags, flag{name, value, false})
}

// Flags that are not set here and cannot be from outside, by what they would do.
var refused = []struct {
	why       string
	component string // empty: all of them
	flags     []string
}{
	{"it would read a file that is not there: the component sees only what Dactyl gives it", "", []string{
		"config", "config-dir", "kubeconfig", "bootstrap-kubeconfig", "token-auth-file", "authorization-config", "authorization-policy-file",
		"authentication-token-webhook-config-file", "authorization-webhook-config-file", "audit-webhook-config-file",
		"egress-selector-config-file", "tracing-config-file", "oidc-ca-file", "tls-sni-cert-key", "peer-ca-file",
		"cluster-signing-cert-file", "cluster-signing-key-file", "cloud-config", "external-cloud-volume-plugin", "pod-manifest-path",
	}},
	{"it would turn off who may do what", "", []string{"anonymous-auth", "read-only-port", "authorization-always-allow-paths", "authentication-skip-lookup"}},
	{"the component would listen where nobody asks it whether it works", "", []string{"healthz-port", "healthz-bind-address", "permit-port-sharing"}},
	{"it would make the program do its work once and end", "", []string{"version", "help", "cleanup", "write-config-to", "init-only", "runonce"}},
	{"single sign-on is not supported yet", "kube-apiserver", []string{
		"oidc-issuer-url", "oidc-client-id", "oidc-username-claim", "oidc-username-prefix", "oidc-groups-claim", "oidc-groups-prefix", "oidc-required-claim", "oidc-signing-algs",
	}},
	{"its directories are the only ones that it may write to", "kubelet", []string{"root-dir", "cert-dir", "pod-logs-dir", "volume-plugin-dir"}},
	{"its network is set up by Dactyl", "kube-proxy", []string{"config-sync-period", "bind-address-hard-fail"}},
}

// merge adds cluster.yaml's flags to those of the component.
func (d *draft) merge(extra map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if why := d.refusal(name); why != "" {
			return fmt.Errorf("kubernetes.extraArgs.%s.%s: %s", d.Name, name, why)
		}
		i := slices.IndexFunc(d.flags, func(f flag) bool { return f.name == name })
		if i < 0 {
			d.set(name, extra[name])
		} else {
			d.flags[i].value = extra[name]
		}
	}
	return nil
}

func (d *draft) refusal(name string) string {
	if len(d.flags) == 0 {
		return "it takes no flags"
	}
	if strings.HasPrefix(name, "-") || strings.ContainsAny(name, "= ") {
		return "write the flag's name without hyphens before it, and its value behind the colon"
	}
	for _, f := range d.flags {
		if f.name == name && f.fixed {
			return "Dactyl sets this flag itself (" + f.value + "): other parts rely on it"
		}
	}
	for _, r := range refused {
		if (r.component == "" || r.component == d.Name) && slices.Contains(r.flags, name) {
			return r.why
		}
	}
	return ""
}
