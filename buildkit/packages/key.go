package packages

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// key names everything that goes into p: equal keys mean equal bytes.
func (w *workshop) key(ctx context.Context, p Package) (string, error) {
	flags, err := w.linkerFlags(ctx, p)
	if err != nil {
		return "", err
	}
	parts := []string{recipe, w.goTool, fmt.Sprint(noMethodByName), p.Import, p.tags(), flags}
	for _, c := range p.Changes {
		parts = append(parts, c.Module, fmt.Sprint(c.edits))
	}
	source, err := hashFolder(filepath.Join(w.folder, p.Dir))
	if err != nil {
		return "", err
	}
	if p.Cgo {
		tools, err := compilerInputs(ctx)
		if err != nil {
			return "", err
		}
		parts = append(parts, tools...)
	}
	return p.Name + "-" + hashText(append(parts, source...)...)[:20], nil
}

// hashFolder is every file's path and content; tests do not go into a program.
func hashFolder(dir string) ([]string, error) {
	var parts []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		parts = append(parts, name, string(text))
		return err
	})
	return parts, err
}

// HostPackages are those Debian packages of buildkit/hostdeps that are needed here.
var HostPackages = []string{"build-essential", "ca-certificates", "e2fsck-static", "libseccomp-dev", "nftables"}

// StaticLibraries are the Debian packages of what is linked into the programs with C in
// them.
var StaticLibraries = []string{"libseccomp-dev", "libc6-dev"}

var staticLibraries = []string{"libseccomp.a", "libc.a"}

// compilerInputs are the C compiler's version and the libraries' content.
func compilerInputs(ctx context.Context) ([]string, error) {
	version, err := exec.CommandContext(ctx, "gcc", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("gcc --version: %w", err)
	}
	parts := []string{string(version)}
	for _, name := range staticLibraries {
		path, err := exec.CommandContext(ctx, "gcc", "-print-file-name="+name).Output()
		if err != nil {
			return nil, fmt.Errorf("gcc -print-file-name=%s: %w", name, err)
		}
		text, err := os.ReadFile(strings.TrimSpace(string(path)))
		if err != nil {
			return nil, fmt.Errorf("static library %s; apt-get install libseccomp-dev libc6-dev: %w", name, err)
		}
		parts = append(parts, string(text))
	}
	return parts, nil
}

// hashText hashes parts so that no two lists of parts look alike.
func hashText(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d\n%s\n", len(p), p)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
