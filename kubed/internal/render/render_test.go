package render

import (
	"encoding/json"
	command "flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/config/extraargs"
)

var update = command.Bool("update", false, "write testdata/*.txt anew")

func home() Node {
	return Node{
		Cluster: "home", Name: "dactyl-000002", Address: netip.MustParseAddr("10.0.2.15"),
		PodNetwork: netip.MustParsePrefix("10.244.0.0/16"), ServiceNetwork: netip.MustParsePrefix("10.96.0.0/16"),
		Resolvers: []netip.Addr{netip.MustParseAddr("10.0.2.3")}, MTU: 1500,
		Registries: Registries{
			Hosts: []Registry{
				{Name: "docker.io", Mirrors: []string{"mirror.example.org:5000", "harbor.example.org/docker-hub"}},
				{Name: "mirror.example.org:5000", CA: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
				{Name: "192.168.7.1:5000", HTTP: true},
				{Name: "*", Mirrors: []string{"192.168.7.1:5000/cache"}},
			},
			Proxy: "http://proxy.example.org:3128", ProxyExcept: []string{"192.168.7.0/24"},
		},
		ExtraArgs: map[string]map[string]string{
			"kube-apiserver": {"event-ttl": "30m", "v": "2"},
			"kubelet":        {"max-pods": "30"},
		},
	}
}

// All that a node is configured with, to be read: one file for each program.
func TestGolden(t *testing.T) {
	all, err := Programs(home())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if len(p.Args)+len(p.Files) == 0 {
			continue
		}
		path := filepath.Join("testdata", p.Name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(story(p)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := story(p); got != string(want) {
			t.Errorf("%s is rendered otherwise; look at it and run go test -update:\n%s", p.Name, got)
		}
	}
}

func story(p Program) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, files in /run/from/kubed/%s\n\n", p.Name, p.Receiver)
	for _, a := range p.Args {
		fmt.Fprintln(&b, a)
	}
	for _, f := range p.Files {
		note := ""
		if f.Live {
			note = ", read again when it changes"
		}
		fmt.Fprintf(&b, "\n-- %s%s --\n%s", f.Name, note, f.Text)
	}
	return b.String()
}

// Other text is another name, and with it another flag; a file that is read again
// keeps its name.
func TestNamesFollowTexts(t *testing.T) {
	a, b := home(), home()
	b.Address = netip.MustParseAddr("10.0.2.16")
	b.Resolvers, b.MTU = nil, 0
	before, after := programs(t, a), programs(t, b)
	for name, same := range map[string]bool{
		"containerd": true, "kube-controller-manager": true, "kube-scheduler": true, "kube-proxy": true,
		"kube-apiserver": false, "kubelet": false, "coredns": false,
	} {
		if got := strings.Join(before[name].Args, " ") == strings.Join(after[name].Args, " "); got != same {
			t.Errorf("the flags of %s are the same after a change of address and resolvers: %v, want %v", name, got, same)
		}
	}
	if text := live(before["kubelet"], "resolv.conf"); text != "nameserver 10.0.2.3\n" || live(after["kubelet"], "resolv.conf") != "" {
		t.Errorf("pods' resolv.conf does not follow the resolvers: %q", text)
	}
	if text := live(before["containerd"], "cni/10-dactyl.conflist"); !strings.Contains(text, `"mtu": 1500`) || strings.Contains(live(after["containerd"], "cni/10-dactyl.conflist"), "mtu") {
		t.Errorf("the pods' bridge does not follow the uplink's MTU: %s", text)
	}
	if text := story(after["coredns"]); !strings.Contains(text, "template ANY ANY . {\n        rcode NXDOMAIN") || strings.Contains(text, "forward") {
		t.Errorf("without a name server: %s", text)
	}
}

func programs(t *testing.T, n Node) map[string]Program {
	t.Helper()
	all, err := Programs(n)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Program{}
	for _, p := range all {
		out[p.Name] = p
	}
	return out
}

func live(p Program, name string) string {
	for _, f := range p.Files {
		if f.Name == name && f.Live {
			return f.Text
		}
	}
	return ""
}

// Every file that is named by a flag, and by a file that is, is written or trustd's.
func TestNamedFilesAreThere(t *testing.T) {
	named := regexp.MustCompile(`/run/from/kubed/[^", \n]+`)
	for _, p := range programs(t, home()) {
		have := map[string]bool{"/run/from/kubed/pods/cni": true, "/run/from/kubed/pods/certs.d": true}
		text := strings.Join(p.Args, "\n")
		for _, f := range p.Files {
			have["/run/from/kubed/"+p.Receiver+"/"+f.Name] = true
			text += "\n" + f.Text
			if strings.HasSuffix(f.Name, ".json") && !json.Valid([]byte(f.Text)) {
				t.Errorf("%s: %s is not JSON", p.Name, f.Name)
			}
		}
		for _, path := range named.FindAllString(text, -1) {
			if !have[strings.Trim(path, "'")] {
				t.Errorf("%s names %s, which nobody writes", p.Name, path)
			}
		}
	}
}

func TestExtraArgsThatCannotBe(t *testing.T) {
	for _, c := range []struct{ component, flag, want string }{
		{"kube-apiserver", "etcd-servers", "kubernetes.extraArgs.kube-apiserver.etcd-servers: not a flag that cluster.yaml may set: want one of audit-log-maxage, "},
		{"kubelet", "manifest-url", "kubernetes.extraArgs.kubelet.manifest-url: not a flag that cluster.yaml may set"},
		{"kubelet", "max-pods", `kubernetes.extraArgs.kubelet.max-pods: "x": want a whole number from 1 to 250`},
		{"etcdd", "quota", "kubernetes.extraArgs.etcdd.quota: it takes no flags"},
		{"coredns", "dns.port", "it takes no flags"},
	} {
		n := home()
		n.ExtraArgs = map[string]map[string]string{c.component: {c.flag: "x"}}
		if _, err := Programs(n); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s --%s: %v, want …%s…", c.component, c.flag, err, c.want)
		}
	}
}

// No flag that cluster.yaml may set is one that is fixed, and each is rendered: as a flag,
// or in the configuration that the component reads.
func TestExtraArgsAreRendered(t *testing.T) {
	for _, component := range extraargs.Components() {
		plain := story(programs(t, bare())[component])
		for _, f := range extraargs.Of(component) {
			n := bare()
			n.ExtraArgs = map[string]map[string]string{component: {f.Name: f.Example}}
			if strings.HasPrefix(f.Name, "eviction-soft") { // each is of use with the other
				n.ExtraArgs[component] = map[string]string{"eviction-soft": "memory.available<300Mi", "eviction-soft-grace-period": "memory.available=2m"}
			}
			if got := story(programs(t, n)[component]); got == plain {
				t.Errorf("%s --%s=%s changes nothing", component, f.Name, f.Example)
			}
		}
	}
}

func bare() Node {
	n := home()
	n.ExtraArgs = nil
	return n
}

// What is set here yields to what is asked for.
func TestKubeletYields(t *testing.T) {
	for _, c := range []struct {
		asked map[string]string
		want  map[string]string
	}{
		{nil, map[string]string{"imageGCHighThresholdPercent": "90", "imageGCLowThresholdPercent": "85"}},
		{map[string]string{"image-gc-high-threshold": "70"}, map[string]string{"imageGCHighThresholdPercent": "70", "imageGCLowThresholdPercent": "65"}},
		{map[string]string{"image-gc-high-threshold": "100"}, map[string]string{"imageGCHighThresholdPercent": "100", "imageGCLowThresholdPercent": "85"}},
		{map[string]string{"image-gc-high-threshold": "2"}, map[string]string{"imageGCHighThresholdPercent": "2", "imageGCLowThresholdPercent": "1"}},
		{map[string]string{"image-gc-low-threshold": "99"}, map[string]string{"imageGCHighThresholdPercent": "100", "imageGCLowThresholdPercent": "99"}},
		{map[string]string{"image-gc-low-threshold": "50"}, map[string]string{"imageGCHighThresholdPercent": "90", "imageGCLowThresholdPercent": "50"}},
		{map[string]string{"image-gc-low-threshold": "50", "image-gc-high-threshold": "60"}, map[string]string{"imageGCHighThresholdPercent": "60", "imageGCLowThresholdPercent": "50"}},
		{map[string]string{"system-reserved": "memory=1Gi"}, map[string]string{"systemReserved.memory": "1Gi", "systemReserved.cpu": "200m"}},
	} {
		n := bare()
		n.ExtraArgs = map[string]map[string]string{"kubelet": c.asked}
		for path, want := range c.want {
			if got, _ := setting(t, programs(t, n)["kubelet"], path); got != want {
				t.Errorf("%v: %s is %q, want %q", c.asked, path, got, want)
			}
		}
	}
	n := bare()
	n.ExtraArgs = map[string]map[string]string{"kubelet": {"eviction-hard": "memory.available<200Mi"}}
	text := story(programs(t, n)["kubelet"])
	if !strings.Contains(text, `"memory.available": "200Mi"`) || !strings.Contains(text, `"nodefs.available": "5%"`) {
		t.Error("another reserve of memory gives up the disk's:\n" + text)
	}
}

func TestNetworks(t *testing.T) {
	n := home()
	n.PodNetwork, n.ServiceNetwork = netip.MustParsePrefix("10.5.6.7/25"), netip.MustParsePrefix("172.20.255.0/24")
	if got := n.PodRange().String(); got != "10.5.6.0/25" {
		t.Errorf("the node's part of a small pod network: %s", got)
	}
	if got := n.dnsAddress().String(); got != "172.20.255.10" {
		t.Errorf("the address of the cluster's name server: %s", got)
	}
}

// The versions that are told are those that are built.
func TestVersions(t *testing.T) {
	text, err := os.ReadFile("../../../buildkit/packages/kubernetes/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for module, want := range map[string]string{
		"k8s.io/kubernetes":                   KubernetesVersion,
		"github.com/containerd/containerd/v2": ContainerdVersion,
		"github.com/coredns/coredns":          CoreDNSVersion,
	} {
		if !strings.Contains(string(text), module+" "+want) {
			t.Errorf("buildkit does not build %s %s", module, want)
		}
	}
}

// The pause image has the name under which it is built.
func TestPauseImage(t *testing.T) {
	text, err := os.ReadFile("../../../buildkit/packages/pause.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), fmt.Sprintf("const PauseImage = %q", pauseImage)) {
		t.Errorf("buildkit does not call it %s", pauseImage)
	}
}

func TestObjects(t *testing.T) {
	var b strings.Builder
	for _, o := range Objects(home()) {
		fmt.Fprintf(&b, "-- %s --\n%s", o.Path, o.Body)
	}
	path := filepath.Join("testdata", "objects.txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || b.String() != string(want) {
		t.Errorf("the objects are rendered otherwise; look at them and run go test -update: %v\n%s", err, b.String())
	}
}
