package packages

// A Package is one program of the image that is built from modules which others
// wrote, or that only their programs need.
type Package struct {
	// Name is the program's, and its file's in the cache.
	Name string
	// Dir is the folder here whose go.mod says which versions are built. Without a
	// go.mod there is nothing of others in it.
	Dir string
	// Import is what is built: a path, or "." for the folder's own main package.
	Import string
	// Module is the one whose version in go.mod is the program's; of a program of ours,
	// none is.
	Module string
	// Tags are build tags beyond those of all packages.
	Tags []string
	// Vars are variables that the linker sets. {module} stands for the module's
	// version in go.mod, as in v1.2.3; {module major} and {module minor} for parts
	// of it.
	Vars []string
	// Cgo links C code in, statically.
	Cgo bool
	// Changes are edits of third-party modules, made before the program is built.
	Changes []Change
	// Install is where the program is on the machine: first the file, then links
	// to it, for programs that look at the name they are started under.
	Install []string
}

const (
	kubernetes = "k8s.io/kubernetes"
	containerd = "github.com/containerd/containerd/v2"
	plugins    = "github.com/containernetworking/plugins"
)

// Packages is everything, in the order in which it is built: the quickest first.
var Packages = []Package{
	{
		Name: "mount", Dir: "mount", Import: ".",
		Install: []string{"/lib/pods/bin/mount", "/lib/pods/bin/umount"},
	},
	{
		Name: "runc", Dir: "runc", Import: "github.com/opencontainers/runc",
		Module: "github.com/opencontainers/runc",
		// No checkpoints: they need the program criu.
		Tags:    []string{"seccomp", "runc_nocriu"},
		Cgo:     true,
		Install: []string{"/lib/pods/bin/runc"},
	},
	{
		Name: "cni", Dir: "cni", Import: ".",
		Module:  plugins,
		Vars:    []string{plugins + "/pkg/utils/buildversion.BuildVersion={" + plugins + "}"},
		Changes: []Change{pluginPackages, pluginAddresses},
		Install: []string{
			"/lib/pods/cni/bridge", "/lib/pods/cni/host-local", "/lib/pods/cni/loopback", "/lib/pods/cni/portmap",
		},
	},
	{
		// A program of its own: one runs for each pod, and starting it must not cost
		// what starting Kubernetes costs.
		Name: "containerd-shim-runc-v2", Dir: "kubernetes", Import: containerd + "/cmd/containerd-shim-runc-v2",
		Module:  containerd,
		Vars:    []string{containerd + "/version.Version={" + containerd + "}"},
		Install: []string{"/lib/pods/bin/containerd-shim-runc-v2"},
	},
	{
		Name: "kubernetes", Dir: "kubernetes", Import: ".",
		Module: kubernetes,
		Vars: []string{
			containerd + "/version.Version={" + containerd + "}",
			"k8s.io/component-base/version.gitVersion={" + kubernetes + "}",
			"k8s.io/component-base/version.gitMajor={" + kubernetes + " major}",
			"k8s.io/component-base/version.gitMinor={" + kubernetes + " minor}",
			"k8s.io/component-base/version.gitCommit=",
			"k8s.io/component-base/version.gitTreeState=clean",
			// What the components call themselves in their requests.
			"k8s.io/client-go/pkg/version.gitVersion={" + kubernetes + "}",
			"k8s.io/client-go/pkg/version.gitCommit=",
		},
		Changes: []Change{execInput, terminatingProbes},
		// In its own root a component of the control plane sees the file under its own
		// name. What runs beside pods is looked up on PATH, by links.
		Install: []string{
			"/lib/kubernetes/kubernetes",
			"/lib/pods/bin/containerd", "/lib/pods/bin/kubelet", "/lib/pods/bin/kube-proxy",
		},
	},
}

// tags are those of all packages.
var tags = []string{
	"netgo", "osusergo", // no C library
	"grpcnotrace",        // no tracing pages: they bring templates that call methods
	"no_tracing",         // containerd: no OpenTelemetry exporter
	"no_rdt",             // containerd: no Intel RDT classes
	"urfave_cli_no_docs", // no manual pages in the program
}
