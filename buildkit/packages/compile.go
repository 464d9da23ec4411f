package packages

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// compile builds p into out, using dir for what it needs besides.
func (w *workshop) compile(ctx context.Context, p Package, dir, out string) error {
	module, mode := filepath.Join(w.folder, p.Dir), "-mod=readonly"
	if len(p.Changes) > 0 {
		vendored, err := w.vendor(ctx, p, dir)
		if err != nil {
			return err
		}
		if err := p.change(vendored); err != nil {
			return err
		}
		module, mode = vendored, "-mod=vendor"
	}
	replaced, err := overlay(w.goroot, dir)
	if err != nil {
		return err
	}
	flags, err := w.linkerFlags(ctx, p)
	if err != nil {
		return err
	}
	return w.goBuild(ctx, p, module,
		"build", "-v", mode, "-trimpath", "-buildvcs=false", "-overlay", replaced,
		"-tags", p.tags(), "-ldflags", flags, "-o", out, p.Import)
}

func (p Package) tags() string { return strings.Join(slices.Concat(tags, p.Tags), ",") }

// linkerFlags leave out what differs between two builds, and symbols.
func (w *workshop) linkerFlags(ctx context.Context, p Package) (string, error) {
	versions, err := w.versions(ctx, p.Dir)
	if err != nil {
		return "", err
	}
	flags := []string{"-s", "-w", "-buildid="}
	if p.Cgo {
		flags = append(flags, "-linkmode=external", "'-extldflags=-static -Wl,--build-id=none'")
	}
	for _, v := range p.Vars {
		v, err := expand(v, versions)
		if err != nil {
			return "", err
		}
		flags = append(flags, "-X", v)
	}
	return strings.Join(flags, " "), nil
}

// expand puts a module's version where {module}, {module major} or {module minor} is.
func expand(text string, versions map[string]string) (string, error) {
	before, rest, found := strings.Cut(text, "{")
	if !found {
		return text, nil
	}
	inside, after, _ := strings.Cut(rest, "}")
	module, part, _ := strings.Cut(inside, " ")
	version, ok := versions[module]
	if !ok {
		return "", fmt.Errorf("linker variable %s: go.mod does not require %s", text, module)
	}
	numbers := strings.Split(strings.TrimPrefix(version, "v"), ".")
	switch part {
	case "":
	case "major":
		version = numbers[0]
	case "minor":
		version = numbers[1]
	default:
		return "", fmt.Errorf("linker variable %s: %q is not a part of a version", text, part)
	}
	return before + version + after, nil
}

// versions are what the go.mod of a folder requires, with its replacements.
func (w *workshop) versions(ctx context.Context, dir string) (map[string]string, error) {
	out, err := w.goOutput(ctx, filepath.Join(w.folder, dir), "mod", "edit", "-json")
	if err != nil {
		return nil, err
	}
	type module struct{ Path, Version string }
	var mod struct {
		Require []module
		Replace []struct{ Old, New module }
	}
	if err := json.Unmarshal([]byte(out), &mod); err != nil {
		return nil, fmt.Errorf("go mod edit -json in %s: %w", dir, err)
	}
	versions := map[string]string{}
	for _, m := range mod.Require {
		versions[m.Path] = m.Version
	}
	for _, r := range mod.Replace {
		versions[r.Old.Path] = r.New.Version
	}
	return versions, nil
}

// vendor copies the package's own folder and the packages that it imports into dir, and
// returns where they are. The alternative, a replace line in go.mod for each edited
// module, would take the module's version out of the program: govulncheck would then
// report none of its vulnerabilities.
func (w *workshop) vendor(ctx context.Context, p Package, dir string) (string, error) {
	own := filepath.Join(dir, "module")
	if err := copySource(own, filepath.Join(w.folder, p.Dir)); err != nil {
		return "", err
	}
	_, err := w.goOutput(ctx, own, "mod", "vendor")
	return own, err
}

// change makes the package's changes in a folder that vendor returned.
func (p Package) change(vendored string) error {
	for _, c := range p.Changes {
		if err := c.apply(c.dir(vendored)); err != nil {
			return err
		}
	}
	return nil
}

// dir is where a folder that vendor returned has the module.
func (c Change) dir(vendored string) string {
	return filepath.Join(vendored, "vendor", filepath.FromSlash(c.Module))
}

// environment keeps the caller's settings out of what is built.
func environment(cgo bool) []string {
	enabled := "0"
	if cgo {
		enabled = "1"
	}
	return append(os.Environ(),
		"CGO_ENABLED="+enabled, "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1",
		"GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=",
		"CC=gcc", "CGO_CFLAGS=-O2", "CGO_CPPFLAGS=", "CGO_LDFLAGS=")
}

func (w *workshop) goOutput(ctx context.Context, dir string, args ...string) (string, error) {
	return goOutput(ctx, dir, false, args...)
}

// goOutputFor is what the go command says where p is built.
func (w *workshop) goOutputFor(ctx context.Context, p Package, args ...string) (string, error) {
	return goOutput(ctx, filepath.Join(w.folder, p.Dir), p.Cgo, args...)
}

func goOutput(ctx context.Context, dir string, cgo bool, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, environment(cgo)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", strings.Join(args, " "), dir, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// goBuild hands the go command's output on line by line; what it said last is part
// of the error.
func (w *workshop) goBuild(ctx context.Context, p Package, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, environment(p.Cgo)
	// Interrupted, the go command stops its compilers; killed, it leaves them behind.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	const keep = 25 // a compiler stops after ten errors, each of up to two lines
	var last []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Fprintln(w.progress, lines.Text())
		last = append(last, lines.Text())
		last = last[max(0, len(last)-keep):]
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, strings.Join(last, "\n"))
	}
	return nil
}
