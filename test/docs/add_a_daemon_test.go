package docs

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
)

// block is a code block of a document, with the file that the sentence before it names.
type block struct{ section, language, file, text string }

var fileName = regexp.MustCompile("^`([a-z0-9_/.]+\\.[a-z]+)`")

// blocks are the code blocks of a document in Markdown.
func blocks(text string) []block {
	var all []block
	var open *block
	section, file := "", ""
	for line := range strings.Lines(text) {
		switch language, fence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```"); {
		case fence && open == nil:
			open = &block{section: section, language: language, file: file}
		case fence:
			all, open, file = append(all, *open), nil, ""
		case open != nil:
			open.text += line
		case strings.HasPrefix(line, "## "):
			section = strings.TrimSpace(line[3:])
		default:
			if m := fileName.FindStringSubmatch(line); m != nil {
				file = m[1]
			}
		}
	}
	return all
}

// docs/add-a-daemon.md is followed in a copy of the tree, up to where a machine would be
// needed: its files are written, its commands run. The result is vetted, and is in the
// image with the rights that the document gives it.
func TestAddADaemon(t *testing.T) {
	text, err := os.ReadFile("../../docs/add-a-daemon.md")
	if err != nil {
		t.Fatal(err)
	}
	tree := copyTree(t)
	run(t, tree, "git init -q && git add -A && git -c user.name=test -c user.email=test@example.com commit -q -m tree")
	var outputs strings.Builder
	for _, b := range blocks(string(text)) {
		number, _, _ := strings.Cut(b.section, ".")
		switch {
		case number > "5":
			continue // needs a machine
		case b.language == "sh":
			outputs.WriteString(run(t, tree, b.text))
		case b.file == "":
			t.Fatalf("section %q has a block of %s that belongs to no file:\n%s", b.section, b.language, b.text)
		default:
			name := b.file
			if path.Dir(name) == "." {
				name = "daemons/greetd/" + name
			}
			if err := os.MkdirAll(filepath.Join(tree, path.Dir(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(tree, name), []byte(b.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, tree, "go vet ./daemons/greetd ./ipc/greet")
	if out := run(t, tree, "gofmt -l daemons/greetd"); out != "" {
		t.Errorf("gofmt would change %s", out)
	}
	for _, want := range []string{"+greetd  user ", "/dactyl.greet.v1.Greet/Greet"} {
		if !strings.Contains(outputs.String(), want) {
			t.Errorf("the difference in docs/authority.txt lacks %q:\n%s", want, outputs.String())
		}
	}
	b, err := manifest.Read(t.Context(), tree, "production")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(b.Manifests, func(m *manifest.Manifest) bool { return m.Name == "greetd" })
	if i < 0 || b.Manifests[i].Provides != "greet" {
		t.Errorf("the image has no greetd that provides greet")
	}
}

// copyTree copies what git has of the tree, or would have, to a directory.
func copyTree(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	out := run(t, "../..", "git ls-files --cached --others --exclude-standard")
	for name := range strings.Lines(out) {
		name = strings.TrimSpace(name)
		content, err := os.ReadFile(filepath.Join("../..", name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// run runs lines of a document in bash and returns what they print. With -trimpath the
// go command finds what it compiled elsewhere.
func run(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath -buildvcs=false", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_PAGER=cat")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return string(out)
}

func TestBlocks(t *testing.T) {
	got := blocks("## 1. A\n\n`a/b.toml`:\n\n```toml\nx = 1\n```\n\n```sh\nmake\n```\n")
	want := []block{{"1. A", "toml", "a/b.toml", "x = 1\n"}, {"1. A", "sh", "", "make\n"}}
	if !slices.Equal(got, want) {
		t.Errorf("blocks are %q, want %q", got, want)
	}
}
