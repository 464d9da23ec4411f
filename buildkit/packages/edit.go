package packages

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Change is a set of edits of one third-party module, made for one reason.
type Change struct {
	Module string
	// Issues are the upstream issues of the fault that the edits fix, as in
	// containerd/containerd#13934. Without issues, the edits adapt the module to this
	// build, and no release makes them unnecessary.
	Issues []string
	// What says what the edits change, as a sentence without its end.
	What string

	edits []edit
	// programs are those of the module that the edits make into packages.
	programs []string
	// test is the module's package in which the files of testdata/upstream/<testFiles>
	// run as tests.
	test, testFiles string
}

// Edited reports whether a program of the table has an edited copy of the module.
func Edited(module string) bool {
	for _, p := range Packages {
		if slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Module == module }) {
			return true
		}
	}
	return false
}

// edit replaces one place in third-party source. It is rejected unless the place occurs
// exactly once, so that it never changes source that it was not written for.
type edit struct{ file, old, new string }

// apply edits the module in dir.
func (c Change) apply(dir string) error {
	for _, e := range c.edits {
		if err := e.apply(dir); err != nil {
			return fmt.Errorf("%w; if %s fixes %s, remove the change from changes.go",
				err, c.Module, strings.Join(c.Issues, ", "))
		}
	}
	return nil
}

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
