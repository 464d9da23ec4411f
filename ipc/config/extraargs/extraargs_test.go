package extraargs

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

// Every flag has a reason and a value that it may have, and is found by its name.
func TestTable(t *testing.T) {
	for _, component := range Components() {
		var names []string
		for _, f := range Of(component) {
			names = append(names, f.Name)
			if len(f.Why) < 10 {
				t.Errorf("%s %s: no reason", component, f.Name)
			}
			if problem := Check(component, map[string]string{f.Name: f.Example}); problem != "" && !strings.Contains(f.Name, "soft") {
				t.Errorf("%s %s: its example: %s", component, f.Name, problem)
			}
			if f.check("") == "" || f.check("x y") == "" || f.check("-1") == "" {
				t.Errorf("%s %s takes any value", component, f.Name)
			}
		}
		if !slices.IsSorted(names) || len(slices.Compact(names)) != len(Of(component)) {
			t.Errorf("%s: the flags are not sorted, or one is there twice", component)
		}
	}
}

// Flags by which a file on the ESP would give rights, and the message that refuses each.
func TestNoRights(t *testing.T) {
	for component, flags := range map[string][]string{
		"kubelet": {
			"manifest-url", "manifest-url-header", "pod-manifest-path", "authorization-mode", "anonymous-auth", "authentication-token-webhook", "client-ca-file",
			"read-only-port", "address", "port", "enable-debugging-handlers", "allowed-unsafe-sysctls", "seccomp-default", "container-runtime-endpoint",
			"image-service-endpoint", "image-credential-provider-bin-dir", "cluster-dns", "resolv-conf", "kubeconfig", "config", "config-dir", "register-node",
			"node-ip", "hostname-override", "protect-kernel-defaults", "tls-min-version", "tls-cipher-suites", "vmodule", "root-dir", "cgroup-root", "make-iptables-util-chains",
		},
		"kube-apiserver": {
			"authorization-mode", "anonymous-auth", "disable-admission-plugins", "enable-admission-plugins", "admission-control-config-file", "tls-min-version",
			"tls-cipher-suites", "cors-allowed-origins", "profiling", "debug-socket-path", "token-auth-file", "service-account-issuer", "api-audiences", "oidc-issuer-url",
			"audit-policy-file", "audit-webhook-config-file", "bind-address", "secure-port", "service-node-port-range", "etcd-servers", "external-hostname",
			"allow-privileged", "service-account-lookup", "enable-priority-and-fairness", "egress-selector-config-file", "vmodule",
		},
		"kube-controller-manager": {"controllers", "cluster-signing-key-file", "service-account-private-key-file", "use-service-account-credentials", "bind-address", "authorization-always-allow-paths", "master", "cloud-provider"},
		"kube-scheduler":          {"config", "master", "bind-address", "authorization-always-allow-paths", "authentication-skip-lookup"},
		"kube-proxy":              {"config", "master", "proxy-mode", "healthz-bind-address", "metrics-bind-address", "cleanup", "conntrack-min"},
	} {
		for _, flag := range flags {
			if got := Name(component, flag); !strings.HasPrefix(got, "not a flag that cluster.yaml may set: want one of ") {
				t.Errorf("%s %s: %q", component, flag, got)
			}
		}
	}
	for _, component := range []string{"containerd", "coredns", "etcdd", ""} {
		if got := Name(component, "v"); !strings.HasPrefix(got, "it takes no flags") {
			t.Errorf("%s: %q", component, got)
		}
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct{ component, flag, value, want string }{
		{"kube-apiserver", "v", "4", ""},
		{"kube-apiserver", "v", "5", `"5": want a whole number from 0 to 4`},
		{"kube-apiserver", "v", "0x2", `"0x2": want a whole number from 0 to 4`},
		{"kube-apiserver", "audit-log-maxage", "30", ""},
		{"kube-apiserver", "audit-log-maxage", "29", `"29": want a whole number from 30 to 3650`}, // what an attacker did is gone before somebody looks
		{"kube-apiserver", "audit-log-maxbackup", "9", `"9": want a whole number from 10 to 100`},
		{"kube-apiserver", "audit-log-maxsize", "9", `"9": want a whole number from 10 to 1000`},
		{"kube-apiserver", "event-ttl", "90m", ""},
		{"kube-apiserver", "event-ttl", "1", `"1": want a duration from 1m to 168h, such as 90s or 1h30m`},
		{"kube-apiserver", "max-requests-inflight", "0", `"0": want a whole number from 20 to 4000`}, // 0 is no limit
		{"kube-apiserver", "feature-gates", "AllAlpha=true", `"AllAlpha=true": want entries such as HPAScaleToZero=true, separated by commas; their names are HPAScaleToZero, MaxUnavailableStatefulSet`},
		{"kube-apiserver", "runtime-config", "admissionregistration.k8s.io/v1=false", `"admissionregistration.k8s.io/v1=false": want versions of API groups to serve, such as resource.k8s.io/v1beta1=true, separated by commas`},
		{"kube-apiserver", "runtime-config", "api/all=true", `"api/all=true": want versions of API groups to serve, such as resource.k8s.io/v1beta1=true, separated by commas`},
		{"kube-proxy", "nodeport-addresses", "primary", ""},
		{"kube-proxy", "nodeport-addresses", "10.0.0.1/8", `"10.0.0.1/8": want primary, or IPv4 networks such as 192.168.7.0/24, separated by commas`},
		{"kubelet", "eviction-hard", "memory.available<100Mi,nodefs.available<7.5%", ""},
		{"kubelet", "system-reserved", "cpu=0.5,memory=1Gi,pid=1000", ""},
		{"kubelet", "system-reserved", "cpu=1Gi", `"cpu=1Gi": want entries such as memory=500Mi, separated by commas; their names are cpu, memory, ephemeral-storage, pid`},
		{"kubelet", "container-log-max-size", "1k", `"1k": want a size from 64Ki to 1Gi`},
		{"kubelet", "serialize-image-pulls", "yes", `"yes": want true or false`},
	} {
		if got := Value(c.component, c.flag, c.value); got != c.want {
			t.Errorf("%s %s=%s: %s, want %s", c.component, c.flag, c.value, got, c.want)
		}
	}
	for _, wrong := range []string{"memory.available=1Gi", "memory.available<0", "memory.available<100%", "memory.available<1Gi,", "memory.available<1Gi,memory.available<2Gi", "cpu<5%", "memory.available<-5Mi", "memory.available<99999999999Ti"} {
		if Value("kubelet", "eviction-hard", wrong) == "" {
			t.Errorf("%s is taken", wrong)
		}
	}
}

func TestTogether(t *testing.T) {
	for _, c := range []struct {
		flags map[string]string
		want  string
	}{
		{map[string]string{"image-gc-high-threshold": "70"}, ""},
		{map[string]string{"image-gc-high-threshold": "70", "image-gc-low-threshold": "69"}, ""},
		{map[string]string{"image-gc-high-threshold": "70", "image-gc-low-threshold": "70"}, "image-gc-low-threshold: 70 is not below image-gc-high-threshold, 70: want less"},
		{map[string]string{"eviction-soft": "memory.available<300Mi"}, "eviction-soft: memory.available has no grace period: want one in eviction-soft-grace-period, such as memory.available=2m"},
		{map[string]string{"eviction-soft-grace-period": "memory.available=2m"}, "eviction-soft-grace-period: memory.available has no threshold: want one in eviction-soft, such as memory.available<10%"},
		{map[string]string{"eviction-soft": "memory.available<300Mi", "eviction-soft-grace-period": "memory.available=2m"}, ""},
	} {
		if got := Check("kubelet", c.flags); got != c.want {
			t.Errorf("%v: %s, want %s", c.flags, got, c.want)
		}
	}
}

var update = flag.Bool("update", false, "write docs/extra-args.md")

// The page for people lists exactly these flags.
func TestPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Flags of Kubernetes' components that cluster.yaml may set

For ` + "`kubernetes.extraArgs` in [cluster.yaml](cluster-yaml.md)" + `. Made from ` + "`ipc/config/extraargs`" + ` by ` + "`go test ./ipc/config/extraargs -update`" + `.
A flag that is not here is refused when the file is read. Everyone with access to the disk's FAT partition can write that file, so no flag here changes
who may do what, where a component gets pods, keys or files from, where it listens, or what it checks.
`)
	for _, component := range Components() {
		b.WriteString("\n## " + component + "\n\n| flag | what for | its value is |\n|---|---|---|\n")
		for _, f := range Of(component) {
			b.WriteString("| `" + f.Name + "` | " + f.Why + " | " + f.check("") + " |\n")
		}
	}
	const page = "../../../docs/extra-args.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(page); err != nil || string(have) != b.String() {
		t.Errorf("docs/extra-args.md is not what the table says: run go test ./ipc/config/extraargs -update: %v", err)
	}
}
