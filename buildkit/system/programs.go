package system

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
	"github.com/dactyl-os/dactyl/buildkit/packages"
)

// programs are the packages of ours that make up an image, as paths from the
// repository's root, with where each goes on the machine.
func programs(b *manifest.Build) map[string]string {
	out := map[string]string{"./init": "/init"}
	for _, m := range b.Manifests {
		if m.Foreign() {
			continue
		}
		out["./"+filepath.Dir(m.Path)] = "/lib/dactyl/" + m.Name
	}
	return out
}

// compile builds all programs with one call of the go command, so that what
// they share is compiled once, and puts each in its place under root.
func compile(ctx context.Context, b *manifest.Build, version, root string, log io.Writer) error {
	bin, err := os.MkdirTemp(filepath.Dir(root), "bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	where := programs(b)
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", manifest.Tags(b.Mode),
		"-ldflags", "-s -w -buildid= -X main.version=" + version, "-o", bin + "/"}
	for pkg := range where {
		args = append(args, pkg)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the programs of the %s image: %w", b.Mode, err)
	}
	for pkg, path := range where {
		to := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(bin, filepath.Base(pkg)), to); err != nil {
			return err
		}
		if err := os.Chmod(to, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// installPackages puts what others wrote in its place under root, and sees that every
// program that a daemon.toml names is there.
func installPackages(ctx context.Context, b *manifest.Build, root string, log io.Writer) error {
	files, err := packages.Build(ctx, "", log)
	if err != nil {
		return err
	}
	if err := packages.Install(root, files); err != nil {
		return err
	}
	for _, m := range b.Manifests {
		for _, path := range m.Programs() {
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				return fmt.Errorf("%s: %s: no package puts it into the image", m.Path, path)
			}
		}
	}
	return nil
}
