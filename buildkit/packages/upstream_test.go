package packages

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A change that fixes an upstream fault has tests in testdata/upstream, which run in the
// edited module. Those named TestFault… fail in the module as it was released: when one
// does not, the release has the fix, and the change is to be removed.
func TestUpstreamFaults(t *testing.T) {
	w, dir := testWorkshop(t), t.TempDir()
	replaced, err := overlay(w.goroot, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Packages {
		vendored := sync.OnceValues(func() (string, error) { return w.vendor(t.Context(), p, filepath.Join(dir, p.Name)) })
		for _, c := range p.Changes {
			if len(c.Issues) == 0 {
				continue
			}
			t.Run(c.testFiles, func(t *testing.T) {
				source, err := vendored()
				if err != nil {
					t.Fatal(err)
				}
				if err := os.CopyFS(filepath.Join(c.dir(source), c.test), os.DirFS(filepath.Join("testdata/upstream", c.testFiles))); err != nil {
					t.Fatal(err)
				}
				out, err := w.runTests(t.Context(), p, c, source, replaced)
				if err == nil || passed(out, "TestFault") != nil || failed(out, "TestFault") == nil {
					t.Errorf("%s as released has the fix of %v: remove the change from changes.go (%v):\n%s", c.Module, c.Issues, err, out)
				}
				if err := c.apply(c.dir(source)); err != nil {
					t.Fatal(err)
				}
				out, err = w.runTests(t.Context(), p, c, source, replaced)
				if err != nil || failed(out, "Test") != nil || passed(out, "TestFault") == nil {
					t.Errorf("%s edited for %v: %v\n%s", c.Module, c.Issues, err, out)
				}
			})
		}
	}
}

// runTests runs a change's tests with the flags with which p is built, so that what both
// compile is compiled once.
func (w *workshop) runTests(ctx context.Context, p Package, c Change, vendored, replaced string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-v", "-count=1", "-vet=off", "-mod=vendor", "-trimpath",
		"-overlay", replaced, "-tags", p.tags(), "-run", strings.Join(testsOf(c), "|"), path.Join(c.Module, c.test))
	cmd.Dir, cmd.Env = vendored, environment(p.Cgo)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsOf are the names of a change's tests.
func testsOf(c Change) []string {
	var names []string
	files, _ := filepath.Glob(filepath.Join("testdata/upstream", c.testFiles, "*_test.go"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		for _, m := range testFunction.FindAllStringSubmatch(string(text), -1) {
			names = append(names, "^"+m[1]+"$")
		}
	}
	return names
}

func passed(out, prefix string) []string { return verdicts(out, "PASS", prefix) }
func failed(out, prefix string) []string { return verdicts(out, "FAIL", prefix) }

// verdicts are the tests whose name has the prefix and whose end was this one.
func verdicts(out, verdict, prefix string) []string {
	return regexp.MustCompile(`(?m)^--- `+verdict+`: `+prefix+`\w*`).FindAllString(out, -1)
}

// docs/upstream.md has a row for every change, with the version that it edits.
func TestUpstreamDoc(t *testing.T) {
	w := testWorkshop(t)
	rows := []string{}
	for _, p := range Packages {
		versions, err := w.versions(t.Context(), p.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Changes {
			if c.What == "" || (len(c.Issues) == 0) != (c.test == "") || (c.test != "" && testsOf(c) == nil) {
				t.Errorf("%s: the change of %s has no description, or issues and no tests", p.Name, c.Module)
			}
			rows = append(rows, fmt.Sprintf("| %s | %s %s | %s | %s |", p.Name, c.Module, versions[c.Module], issues(c), c.What))
		}
	}
	text, err := os.ReadFile("../../docs/upstream.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		if row := strings.TrimSpace(line); strings.HasPrefix(row, "| ") && !strings.HasPrefix(row, "| program ") {
			got = append(got, row)
		}
	}
	if !slices.Equal(got, rows) {
		t.Errorf("docs/upstream.md: its table has these rows:\n%s\nthe changes are:\n%s", strings.Join(got, "\n"), strings.Join(rows, "\n"))
	}
}

func issues(c Change) string {
	var links []string
	for _, issue := range c.Issues {
		repository, number, _ := strings.Cut(issue, "#")
		links = append(links, fmt.Sprintf("[%s](https://github.com/%s/issues/%s)", issue, repository, number))
	}
	return strings.Join(links, ", ")
}
