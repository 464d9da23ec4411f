package packages

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// edit replaces one place of somebody else's source. It is refused when the place is
// not there exactly once, so that it never changes another source than the one it
// was written for.
type edit struct{ file, old, new string }

func (e edit) apply(root string) error {
	path := filepath.Join(root, e.file)
	text, err := e.edited(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func (e edit) edited(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), e.old); n != 1 {
		return "", fmt.Errorf("edit %s: %q is there %d times, not once", path, e.old, n)
	}
	return strings.Replace(string(text), e.old, e.new, 1), nil
}

// noMethodByName keeps templates from calling methods; fields, functions and maps
// work as before. One call of MethodByName with a name that is not known at build
// time makes the linker keep every exported method of every type, which is a sixth of
// Kubernetes. What is lost: the help texts of urfave/cli (containerd, runc).
var noMethodByName = edit{
	file: "src/text/template/exec.go",
	old:  "if method := ptr.MethodByName(fieldName); method.IsValid() {",
	new:  "if method := (reflect.Value{}); method.IsValid() {",
}

// overlay writes the edited template package to dir and returns the file that tells
// the go command to take it instead of GOROOT's.
func overlay(goroot, dir string) (string, error) {
	from := filepath.Join(goroot, noMethodByName.file)
	text, err := noMethodByName.edited(from)
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "exec.go")
	if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {from: to}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, replace, 0o644)
}

// pluginEdits make packages of the CNI plugins' programs, which Go would otherwise
// not import into one program.
var pluginEdits = []edit{
	{"plugins/main/bridge/bridge.go", "\npackage main\n", "\npackage bridge\n"},
	{"plugins/main/bridge/bridge.go", "\nfunc main() {\n", "\nfunc Main() {\n"},
	{"plugins/main/loopback/loopback.go", "\npackage main\n", "\npackage loopback\n"},
	{"plugins/main/loopback/loopback.go", "\nfunc main() {\n", "\nfunc Main() {\n"},
	{"plugins/ipam/host-local/dns.go", "\npackage main\n", "\npackage hostlocal\n"},
	{"plugins/ipam/host-local/main.go", "\npackage main\n", "\npackage hostlocal\n"},
	{"plugins/ipam/host-local/main.go", "\nfunc main() {\n", "\nfunc Main() {\n"},
	{"plugins/meta/portmap/chain.go", "\npackage main\n", "\npackage portmap\n"},
	{"plugins/meta/portmap/main.go", "\npackage main\n", "\npackage portmap\n"},
	{"plugins/meta/portmap/main.go", "\nfunc main() {\n", "\nfunc Main() {\n"},
	{"plugins/meta/portmap/portmap_iptables.go", "\npackage main\n", "\npackage portmap\n"},
	{"plugins/meta/portmap/portmap_nftables.go", "\npackage main\n", "\npackage portmap\n"},
	{"plugins/meta/portmap/utils.go", "\npackage main\n", "\npackage portmap\n"},
}
