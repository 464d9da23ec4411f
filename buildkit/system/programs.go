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
// they share is compiled once, and puts each in its place under root. They stay
// beside root too, where the go command finds those that need not be linked again:
// half of the time of an image in which one daemon changed.
func compile(ctx context.Context, b *manifest.Build, version, root string, log io.Writer) error {
	bin := root + ".bin"
	where := programs(b)
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", manifest.Tags(b.Mode),
		"-ldflags", "-s -w -X main.version=" + version, "-o", bin + "/"}
	for pkg := range where {
		args = append(args, pkg)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the programs of the %s image: %w", b.Mode, err)
	}
	var files []packages.File
	for pkg, path := range where {
		from := filepath.Join(bin, filepath.Base(pkg))
		if err := os.Chmod(from, 0o755); err != nil { // whatever the caller's umask
			return err
		}
		files = append(files, packages.File{From: from, Path: path})
	}
	return packages.Install(root, files)
}

// installPackages puts what others wrote in its place under root, and sees that every
// program that a daemon.toml names is there.
func installPackages(ctx context.Context, b *manifest.Build, root string, log io.Writer) ([]packages.File, error) {
	files, err := packages.Build(ctx, "", log)
	if err != nil {
		return nil, err
	}
	if err := packages.Install(root, files); err != nil {
		return nil, err
	}
	for _, m := range b.Manifests {
		for _, path := range m.Programs() {
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				return nil, fmt.Errorf("%s: %s: no package puts it into the image", m.Path, path)
			}
		}
	}
	return files, nil
}

// programPaths are the paths on the machine at which a program or library may be: ours,
// and files of buildkit/packages.
func programPaths(b *manifest.Build, files []packages.File) []string {
	var paths []string
	for _, path := range programs(b) {
		paths = append(paths, path)
	}
	for _, f := range files {
		paths = append(paths, f.Path)
	}
	return paths
}
