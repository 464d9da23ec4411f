package licenses

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
	"github.com/dactyl-os/dactyl/buildkit/packages"
)

// Component is something in the image that somebody owns.
type Component struct {
	Name    string
	Version string
	SPDX    string // licence expression
	Source  string // where its source is had
	Texts   []Text // licence first, then notices
}

// Text is one file that must go with a component.
type Text struct {
	File    string // its name, for people
	Content string
}

// notModules are what the image has besides Go modules.
//
//go:embed texts
var notModules embed.FS

// Read lists what is linked into the image of b, whose programs are built with
// tags, by name; the kernel, the boot loader and Go come first. It is to be
// called in the repository's root, dir.
func Read(ctx context.Context, dir string, b *manifest.Build, tags string) ([]Component, error) {
	programs := []string{"./init"}
	for _, m := range b.Manifests {
		if !m.Foreign() {
			programs = append(programs, "./"+filepath.Dir(m.Path))
		}
	}
	linked, err := list(ctx, dir, tags, programs)
	if err != nil {
		return nil, err
	}
	beside, err := linkedBeside(ctx)
	if err != nil {
		return nil, err
	}
	all, err := given(ctx, dir)
	if err != nil {
		return nil, err
	}
	modules, err := components(linked, beside)
	return append(all, modules...), err
}

// linkedBeside returns the packages that are linked into programs which others wrote.
func linkedBeside(ctx context.Context) ([]pkg, error) {
	linked, err := packages.Linked(ctx)
	var all []pkg
	for _, l := range linked {
		all = append(all, pkg{l.Dir, &module{Path: l.Module, Version: l.Version, Dir: l.ModuleDir}})
	}
	return all, err
}

// given is what no go list tells of.
func given(ctx context.Context, dir string) ([]Component, error) {
	linux, err := embedded("texts/GPL-2.0.txt")
	if err != nil {
		return nil, err
	}
	systemd, err := embedded("texts/LGPL-2.1.txt")
	if err != nil {
		return nil, err
	}
	root, version, err := goRoot(ctx, dir)
	if err != nil {
		return nil, err
	}
	debian, err := debian(ctx)
	if err != nil {
		return nil, err
	}
	golang := Component{Name: "Go (runtime and standard library)", Version: version, Source: "https://go.dev/dl"}
	if err := golang.identify([]string{root}, root, allowed); err != nil {
		return nil, err
	}
	return append([]Component{
		{"Linux", "6.12", "GPL-2.0-only", "Debian's package linux-source-6.12, unchanged; configuration in buildkit/kernel", []Text{linux}},
		{"systemd-boot and systemd's EFI stub", "252", "LGPL-2.1-or-later", "Debian's source package systemd, unchanged", []Text{systemd}},
		golang,
	}, debian...), nil
}

func embedded(name string) (Text, error) {
	b, err := notModules.ReadFile(name)
	return Text{filepath.Base(name), string(b)}, err
}

// goRoot returns the directory of the Go that builds, and the version that
// go.mod asks for: a later one builds the same programs.
func goRoot(ctx context.Context, dir string) (root, version string, err error) {
	out, err := run(ctx, dir, "env", "GOROOT")
	if err != nil {
		return "", "", err
	}
	version, err = run(ctx, dir, "list", "-m", "-f", "{{.GoVersion}}")
	return out, version, err
}

// pkg is what go list says of a package.
type pkg struct {
	Dir    string
	Module *module
}

type module struct {
	Path, Version, Dir string
	Main               bool
}

// list returns all packages outside this repository that are linked into packages.
func list(ctx context.Context, dir, tags string, packages []string) ([]pkg, error) {
	args := append([]string{"list", "-deps", "-tags", tags, "-json=Dir,Module"}, packages...)
	out, err := run(ctx, dir, args...)
	if err != nil {
		return nil, err
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read what go list says: %w", err)
		}
		if p.Module != nil && !p.Module.Main {
			all = append(all, p)
		}
	}
}

func run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// components puts packages together to modules, by name, and finds out their licences:
// those of ours, which are linked into programs of this repository, and of those
// beside. All that is wrong is reported at once.
func components(ours, beside []pkg) ([]Component, error) {
	type part struct {
		Component
		dir  string
		dirs []string
		may  []string
	}
	parts := map[module]*part{}
	add := func(linked []pkg, may []string) {
		for _, p := range linked {
			m := parts[*p.Module]
			if m == nil {
				m = &part{Component{Name: p.Module.Path, Version: p.Module.Version, Source: "https://pkg.go.dev/" + p.Module.Path}, p.Module.Dir, nil, may}
				parts[*p.Module] = m
			}
			m.dirs = append(m.dirs, p.Dir)
		}
	}
	add(ours, allowed)
	add(beside, slices.Concat(allowed, allowedBeside))
	inOrder := slices.SortedFunc(maps.Keys(parts), func(a, b module) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Version, b.Version))
	})
	var all []Component
	var errs []error
	for _, m := range inOrder {
		p := parts[m]
		errs = append(errs, p.identify(p.dirs, p.dir, p.may))
		all = append(all, p.Component)
	}
	return all, errors.Join(errs...)
}

// textName matches the files in which modules say under which terms they are.
var textName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|copyright|patents)([-._].*)?$`)

// texts reads those files in dirs and in all directories above them up to root,
// the root's first.
func texts(dirs []string, root string) ([]Text, error) {
	wanted := map[string]bool{root: true}
	for _, dir := range dirs {
		for ; dir != root && strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
			wanted[dir] = true
		}
	}
	var all []Text
	for _, dir := range sorted(wanted) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() || !textName.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
				continue
			}
			path := filepath.Join(dir, e.Name())
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return nil, err
			}
			all = append(all, Text{name, string(content)})
		}
	}
	return all, nil
}

func sorted(set map[string]bool) []string {
	var out []string
	for s := range set {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}
