package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dactyl-os/dactyl/buildkit/hostdeps"
)

// What is needed here is on the list that make deps installs.
func TestHostPackages(t *testing.T) {
	for _, name := range HostPackages {
		if !slices.ContainsFunc(hostdeps.Packages, func(p hostdeps.Package) bool { return p.Name == name }) {
			t.Errorf("buildkit/hostdeps does not know %s", name)
		}
	}
}

func TestLDD(t *testing.T) {
	out := "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibmd.so.0 => /lib/x/libmd.so.0 (0x00007f35)\n\t/lib64/ld.so.2 (0x00007f36)\n"
	var got []string
	for _, m := range inLDD.FindAllStringSubmatch(out, -1) {
		got = append(got, m[1])
	}
	if strings.Join(got, " ") != "/lib/x/libmd.so.0 /lib64/ld.so.2" {
		t.Errorf("read %q", got)
	}
}

// A root with nothing in it but what the image gets, in a network namespace of its own.
// Here nft does what kube-proxy and the CNI plugins ask of it.
func TestNft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may change its root")
	}
	files, err := Debian(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range files {
		if f.Name == "" || f.Version == "" || !exists(f.Copyright) {
			t.Errorf("%s: %+v", f.Path, f.DebianPackage)
		}
		if err := Install(root, []File{f.File}); err != nil {
			t.Fatal(err)
		}
	}
	netns := newNetworkNamespace(t)
	nft := func(in string, args ...string) string {
		cmd := exec.Command("nsenter", append([]string{"--net=" + netns, "chroot", root, "/lib/pods/bin/nft"}, args...)...)
		cmd.Stdin, cmd.Env = strings.NewReader(in), []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if out := nft("", "--version"); !strings.HasPrefix(out, "nftables v1.") {
		t.Errorf("version: %s", out)
	}
	const rules = `
add table ip kube-proxy { comment "rules for kube-proxy" ; }
add chain ip kube-proxy services
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }
add element ip kube-proxy service-ips { 10.96.0.1 . tcp . 443 comment "default/kubernetes" : goto services }
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100 ; }
add rule ip kube-proxy nat-prerouting ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy services numgen random mod 2 vmap { 0 : return, 1 : drop }
`
	nft(rules, "--check", "-f", "-")
	nft(rules, "-f", "-")
	if out := nft("", "--json", "list", "map", "ip", "kube-proxy", "service-ips"); !strings.Contains(out, `"10.96.0.1"`) {
		t.Errorf("the map: %s", out)
	}
	if out := nft("", "--json", "--terse", "list", "table", "ip", "kube-proxy"); !strings.Contains(out, `"nat-prerouting"`) {
		t.Errorf("the table: %s", out)
	}
}

// newNetworkNamespace returns the path of one that lives as long as the test.
func newNetworkNamespace(t *testing.T) string {
	t.Helper()
	holder := exec.Command("sleep", "1000")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		t.Skip("no network namespace to be had: ", err)
	}
	t.Cleanup(func() {
		holder.Process.Kill()
		holder.Wait()
	})
	return filepath.Join("/proc", strconv.Itoa(holder.Process.Pid), "ns", "net")
}
