package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// daemonFolders returns the folder of every daemon, from its daemon.toml.
func daemonFolders(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"*/daemon.toml", "daemons/*/daemon.toml"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			out = append(out, filepath.Dir(f))
		}
	}
	if len(out) < 9 {
		t.Fatalf("only %d daemons found", len(out))
	}
	return out
}

// Whoever knows one daemon finds his way in all others.
func TestDaemonsLookAlike(t *testing.T) {
	for _, dir := range daemonFolders(t) {
		for _, file := range []string{"doc.go", "main.go", "engine.go"} {
			if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
				t.Errorf("%s has no %s: every daemon has", dir, file)
			}
		}
		main, err := os.ReadFile(filepath.Join(dir, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(main, []byte("func main() { kit.Main(setup) }")) {
			t.Errorf("%s/main.go: a daemon's main is `func main() { kit.Main(setup) }`", dir)
		}
	}
}

// Decisions are pure: an engine gets the time and what was seen, and says what to do.
func TestEnginesArePure(t *testing.T) {
	impure := map[string]bool{"os": true, "net": true, "syscall": true, "golang.org/x/sys/unix": true, "os/exec": true}
	for _, dir := range daemonFolders(t) {
		path := filepath.Join(dir, "engine.go")
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if impure[strings.Trim(i.Path.Value, `"`)] {
				t.Errorf("%s imports %s: an engine decides, kernel_linux.go acts", path, i.Path.Value)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Now" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s calls time.Now: an engine is told the time", set.Position(s.Pos()))
				}
			}
			return true
		})
	}
}

// What may not stand in the code, and why.
var banned = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`(Errorf|errors\.New)\("(failed|could not|unable) `), "an error names the operation and its operands"},
	{regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`), "what is not done is said in docs/ or an issue"},
	{regexp.MustCompile(`(?m)^package (util|utils|common|helpers|misc)$`), "a package is named for what it is about"},
}

func TestCodeHasNothingBanned(t *testing.T) {
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "out") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "test/arch/house_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, b := range banned {
			if m := b.pattern.Find(text); m != nil {
				t.Errorf("%s: %q: %s", path, m, b.why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A change of authority is a change in a diff that people read.
func TestCommittedGraphIsCurrent(t *testing.T) {
	cmd := exec.Command("go", "run", "./buildkit/cmd/graph")
	cmd.Dir = root
	now, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile(filepath.Join(root, "docs/authority.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(now, committed) {
		t.Error("docs/authority.txt is not what the daemon.toml say: run make graph and look at the difference")
	}
}

// Generated code is what its .proto says.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	dir := t.TempDir()
	for _, pattern := range []string{"ipc/*/*.proto", "daemons/*/internal/*/*.proto"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			short, _ := filepath.Rel(root, f)
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(short)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, short), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	generator := filepath.Join(dir, "proto")
	build := exec.Command("go", "build", "-o", generator, "./buildkit/cmd/proto")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	generate := exec.Command(generator)
	generate.Dir = dir
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var made []string
	for _, pattern := range []string{"ipc/*/*.pb.go", "daemons/*/internal/*/*.pb.go"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s was made: %v", pattern, err)
		}
		made = append(made, found...)
	}
	if len(made) < 20 {
		t.Fatalf("%d files made", len(made))
	}
	for _, f := range made {
		short, _ := filepath.Rel(dir, f)
		want, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if have, err := os.ReadFile(filepath.Join(root, short)); err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what its .proto says: run make proto", short)
		}
	}
}

// Each direct dependency says in go.mod what it is for.
func TestDependenciesHaveReasons(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^\t(\S+) v\S+(?: // (.*))?$`)
	direct := 0
	for l := range strings.Lines(string(text)) {
		m := line.FindStringSubmatch(strings.TrimRight(l, "\n"))
		if m == nil || m[2] == "indirect" {
			continue
		}
		direct++
		if m[2] == "" {
			t.Errorf("go.mod: %s has no reason: write // and one behind it", m[1])
		}
	}
	if direct < 10 {
		t.Errorf("only %d direct dependencies found", direct)
	}
}

// The repository stands by itself: nothing in it names the machine or the place
// where it was written.
func TestNothingNamesAPrivatePath(t *testing.T) {
	out, err := exec.Command("git", "-C", root, "grep", "-nIE", `\.\./shared|/root/|/home/[a-z]`, "--", ":!test/arch").Output()
	if len(out) > 0 {
		t.Errorf("private paths:\n%s", out)
	}
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) {
		t.Fatal(err)
	}
}
