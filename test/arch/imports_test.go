// Package arch holds the rules of the house as tests. Each rule prints why it is
// one.
package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
)

const module = "github.com/dactyl-os/dactyl/"

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	Imports    []string
	Deps       []string
	GoFiles    []string
}

func (p pkg) folder() string { return strings.TrimPrefix(p.ImportPath, module) }

// packages lists the repository's packages as they are built into a test image,
// which has the most in it.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-tags", "dev,test,grpcnotrace,netgo,osusergo", "-json=ImportPath,Name,Dir,Imports,Deps,GoFiles", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// A rule says what the packages of some folders may import: the standard library
// and what is listed, each with whatever is below it.
type rule struct {
	folders []string // with all below them
	may     []string // "dactyl:" stands for this module
	why     string
}

var daemonMay = []string{"dactyl:ipc", "dactyl:daemons/kit", "dactyl:daemons/abi", "golang.org/x/sys", "google.golang.org/grpc/codes", "google.golang.org/grpc/status", "google.golang.org/protobuf"}

// reviewed are what single parts may import besides: each was looked at, and its
// reason stands in go.mod.
var rules = []rule{
	{[]string{"daemons/abi"}, nil, "PID 1 and every daemon have it: it is facts only"},
	{[]string{"init"}, []string{"dactyl:ipc", "dactyl:daemons/abi", "dactyl:daemons/kit/footprint", "github.com/containerd/ttrpc", "golang.org/x/sys", "google.golang.org/grpc/codes", "google.golang.org/grpc/status", "google.golang.org/protobuf"},
		"what PID 1 links can stop the machine: the standard library, x/sys and the little of ipc that it serves"},
	{[]string{"ipc"}, []string{"dactyl:ipc", "github.com/containerd/ttrpc", "google.golang.org/grpc/codes", "google.golang.org/grpc/status", "google.golang.org/protobuf"},
		"everybody imports ipc, so it imports nobody"},
	{[]string{"daemons/kit"}, []string{"dactyl:ipc", "dactyl:daemons/abi", "golang.org/x/sys", "golang.org/x/net/bpf", "github.com/landlock-lsm/go-landlock", "github.com/sirupsen/logrus"},
		"what kit links, every daemon has"},
	{[]string{"networkd"}, append([]string{"github.com/google/nftables", "github.com/insomniacslk/dhcp", "github.com/mdlayher/netlink", "github.com/mdlayher/socket", "golang.org/x/net/bpf"}, daemonMay...), "a daemon is its own code and reviewed libraries"},
	{[]string{"daemons/configd"}, append([]string{"go.yaml.in/yaml"}, daemonMay...), "a daemon is its own code and reviewed libraries"},
	{[]string{"daemons/timed"}, append([]string{"github.com/beevik/ntp"}, daemonMay...), "a daemon is its own code and reviewed libraries"},
	{[]string{"daemons/etcdd"}, append([]string{"go.etcd.io/bbolt", "go.etcd.io/etcd", "go.etcd.io/raft", "go.uber.org/zap", "google.golang.org/grpc"}, daemonMay...), "a daemon is its own code and reviewed libraries"},
	{[]string{"daemons/podd"}, append([]string{"github.com/containerd/containerd/api", "github.com/distribution/reference", "google.golang.org/grpc", "k8s.io/cri-api"}, daemonMay...), "a daemon is its own code and reviewed libraries"},
	{[]string{"daemons/routerd"}, append([]string{"google.golang.org/grpc"}, daemonMay...), "a daemon is its own code and reviewed libraries"},
	{[]string{"storaged", "trustd", "kubed", "daemons/logd", "daemons/consoled", "daemons/template", "test/boot/escape/mischiefd"}, daemonMay, "a daemon is its own code and reviewed libraries"},
}

// A daemon that no rule names could import anything.
func TestEveryDaemonHasItsRule(t *testing.T) {
	for _, dir := range daemonFolders(t) {
		folder, err := filepath.Rel(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(rules, func(r rule) bool { return within(folder, r.folders) }) {
			t.Errorf("%s: no rule says what it may import: write one in imports_test.go", folder)
		}
	}
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasSuffix(p.folder(), "testdata") || strings.Contains(p.folder(), "/testdata/") {
			continue
		}
		for _, r := range rules {
			if !within(p.folder(), r.folders) {
				continue
			}
			for _, i := range p.Imports {
				if !allowed(p, i, r.may) {
					t.Errorf("%s imports %s: %s", p.folder(), i, r.why)
				}
			}
		}
	}
}

func within(folder string, of []string) bool {
	return slices.ContainsFunc(of, func(f string) bool { return folder == f || strings.HasPrefix(folder, f+"/") })
}

func allowed(p pkg, imported string, may []string) bool {
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return true // standard library
	}
	own := strings.TrimPrefix(imported, module)
	if own != imported && (within(own, []string{p.folder()}) || within(own, []string{path.Dir(p.folder())}) && strings.Contains(p.folder(), "/internal/")) {
		return true
	}
	if own != imported && strings.HasPrefix(own, strings.SplitN(p.folder(), "/internal/", 2)[0]+"/internal/") {
		return true
	}
	return slices.ContainsFunc(may, func(m string) bool {
		m = strings.Replace(m, "dactyl:", module, 1)
		return imported == m || strings.HasPrefix(imported, m+"/")
	})
}

// The command for people talks to a machine through ipc alone, and nothing that
// builds images is in one.
func TestWhoImportsWhomAcrossTheHouse(t *testing.T) {
	for _, p := range packages(t) {
		for _, i := range p.Imports {
			own := strings.TrimPrefix(i, module)
			if own == i {
				continue
			}
			if within(p.folder(), []string{"ctl"}) && !within(own, []string{"ipc", "ctl"}) {
				t.Errorf("%s imports %s: the command knows machines by their services alone", p.folder(), own)
			}
			if within(own, []string{"buildkit", "test"}) && within(p.folder(), []string{"init", "networkd", "storaged", "trustd", "kubed", "daemons", "ipc", "ctl"}) {
				t.Errorf("%s imports %s: what builds and tests images is in none", p.folder(), own)
			}
		}
	}
}

// heavy are packages that no program of an image may link: each brings code that
// an attacker would use, or turns off the linker's dead-code elimination.
var heavy = map[string]string{
	"os/exec":       "only PID 1 starts programs, and it needs no PATH",
	"net/http/cgi":  "starts programs",
	"plugin":        "loads code",
	"text/template": "calls methods by name, so that the linker keeps all methods of everything",
	"html/template": "as text/template",
	"expvar":        "a web server's",
	"net/rpc":       "calls methods by name",
}

// heavyFor are programs that may link one of them nevertheless.
var heavyFor = map[string]map[string]string{
	"daemons/etcdd": {"expvar": "etcd's server publishes its figures there; nothing serves them"},
	"storaged":      {"os/exec": "setup runs e2fsck, by an absolute path; sealed, storaged starts nothing"},
}

func TestNothingHeavyIsLinked(t *testing.T) {
	programs := 0
	for _, p := range packages(t) {
		if p.Name != "main" || !within(p.folder(), []string{"init", "networkd", "storaged", "trustd", "kubed", "daemons"}) || strings.Contains(p.folder(), "testdata") {
			continue
		}
		programs++
		for _, d := range p.Deps {
			if why, bad := heavy[d]; bad && heavyFor[p.folder()][d] == "" {
				t.Errorf("%s links %s: %s", p.folder(), d, why)
			}
		}
	}
	if programs < 10 {
		t.Errorf("only %d programs were looked at", programs)
	}
}

// A production image has not even the code of what only development and tests call.
func TestProductionLinksNothingForDevelopment(t *testing.T) {
	for mode, want := range map[string]int{"production": 0, "dev": 1, "test": 2} {
		cmd := exec.Command("go", "list", "-tags", manifest.Tags(mode), "-deps", "./init")
		cmd.Dir = "../.."
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for d := range strings.FieldsSeq(string(out)) {
			if d == module+"ipc/dev" || d == module+"ipc/probe" {
				got++
			}
		}
		if got != want {
			t.Errorf("PID 1 of a %s image links %d of ipc/dev and ipc/probe, want %d", mode, got, want)
		}
	}
}
