package packages

import (
	"context"
	"debug/buildinfo"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// These tests look at finished programs. They never build one: what is not in the
// cache is skipped, and go run ./buildkit/cmd/packages puts it there.

func built(t *testing.T, name string) string {
	t.Helper()
	files, err := Cached(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if files[name] == "" {
		t.Skipf("%s is not in the cache; make it with go run ./buildkit/cmd/packages", name)
	}
	return files[name]
}

// Something new that calls methods by name would cost a sixth of the size.
func TestDeadCodeIsDropped(t *testing.T) {
	for _, p := range Packages {
		t.Run(p.Name, func(t *testing.T) {
			if err := checkDeadCode(built(t, p.Name)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Nothing that is built here is linked at run time: the libraries in the image are nft's.
func TestStatic(t *testing.T) {
	for _, p := range Packages {
		t.Run(p.Name, func(t *testing.T) {
			out, err := exec.Command("readelf", "--program-headers", "--dynamic", built(t, p.Name)).CombinedOutput()
			if err != nil || strings.Contains(string(out), "INTERP") || strings.Contains(string(out), "NEEDED") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// The name under which a program is started decides what it is, and each says the
// version that go.mod asks for.
func TestPrograms(t *testing.T) {
	for _, want := range []struct{ program, name, args, says string }{
		{"kubernetes", "kube-apiserver", "--version", "Kubernetes {k8s.io/kubernetes}\n"},
		{"kubernetes", "kube-controller-manager", "--version", "Kubernetes {k8s.io/kubernetes}\n"},
		{"kubernetes", "kube-proxy", "--version", "Kubernetes {k8s.io/kubernetes}\n"},
		{"kubernetes", "kube-scheduler", "--version", "Kubernetes {k8s.io/kubernetes}\n"},
		{"kubernetes", "kubelet", "--version", "Kubernetes {k8s.io/kubernetes}\n"},
		{"kubernetes", "containerd", "--version", " {github.com/containerd/containerd/v2} "},
		{"kubernetes", "coredns", "-plugins", "\nkubernetes\n"},
		{"kubernetes", "kubernetes", "", "kube-controller-manager\n"},
		{"containerd-shim-runc-v2", "containerd-shim-runc-v2", "-v", "  Version:  {github.com/containerd/containerd/v2}\n"},
		{"cni", "bridge", "", "CNI bridge plugin {github.com/containernetworking/plugins}\n"},
		{"cni", "host-local", "", "CNI host-local plugin {github.com/containernetworking/plugins}\n"},
		{"cni", "loopback", "", "CNI loopback plugin {github.com/containernetworking/plugins}\n"},
		{"cni", "portmap", "", "CNI portmap plugin {github.com/containernetworking/plugins}\n"},
		{"mount", "mount", "", "mount: mount ["},
		{"mount", "umount", "", "umount: umount ["},
		{"runc", "runc", "--version", "runc version 1."},
	} {
		t.Run(want.name, func(t *testing.T) {
			program, w := built(t, want.program), testWorkshop(t)
			link := filepath.Join(t.TempDir(), want.name)
			if err := os.Symlink(program, link); err != nil {
				t.Fatal(err)
			}
			versions, err := w.versions(t.Context(), dirOf(want.program))
			if err != nil {
				t.Fatal(err)
			}
			says, err := expand(want.says, versions)
			if err != nil {
				t.Fatal(err)
			}
			out, _ := exec.Command(link, strings.Fields(want.args)...).CombinedOutput()
			if !strings.Contains(string(out), says) {
				t.Errorf("%s %s: want %q; got:\n%s", want.name, want.args, says, out)
			}
		})
	}
}

func dirOf(program string) string {
	for _, p := range Packages {
		if p.Name == program {
			return p.Dir
		}
	}
	return ""
}

// Where a program was built is not in it. cni is the one with edited source, runc the
// one with C in it; kubernetes would take as long as a build of it.
func TestElsewhereTheSame(t *testing.T) {
	w := testWorkshop(t) // with a cache of its own
	for _, p := range Packages {
		if len(p.Changes) == 0 && !p.Cgo || p.Name == "kubernetes" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			before := built(t, p.Name)
			again, err := w.program(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("cmp", before, again).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// CoreDNS as a machine without a name server configures it says at once that a name
// which is not the cluster's does not exist.
func TestCoreDNSWithoutNameServer(t *testing.T) {
	link := filepath.Join(t.TempDir(), "coredns")
	if err := os.Symlink(built(t, "kubernetes"), link); err != nil {
		t.Fatal(err)
	}
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.LocalAddr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(address)
	corefile := filepath.Join(t.TempDir(), "Corefile")
	text := ".:" + port + " {\n    bind 127.0.0.1\n    errors\n    cache 30\n    template ANY ANY . {\n        rcode NXDOMAIN\n    }\n}\n"
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program := exec.Command(link, "-conf", corefile)
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { program.Process.Kill(); program.Wait() }()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", address)
	}}
	var dns *net.DNSError
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, err = resolver.LookupHost(t.Context(), "example.com.")
		if errors.As(err, &dns) && dns.IsNotFound {
			return
		}
	}
	t.Errorf("example.com: %v, want that there is no such name", err)
}

// An edited module is in the program under its own path and version, by which govulncheck
// and the bill of materials know it.
func TestEditedModulesKeepTheirVersion(t *testing.T) {
	for _, p := range Packages {
		for _, c := range p.Changes {
			t.Run(p.Name+"/"+c.Module, func(t *testing.T) {
				versions, err := testWorkshop(t).versions(t.Context(), p.Dir)
				if err != nil {
					t.Fatal(err)
				}
				info, err := buildinfo.ReadFile(built(t, p.Name))
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(info.Deps, func(m *debug.Module) bool { return m.Path == c.Module })
				if i < 0 || info.Deps[i].Version != versions[c.Module] || info.Deps[i].Replace != nil {
					t.Errorf("the program does not name %s %s", c.Module, versions[c.Module])
				}
			})
		}
	}
}
