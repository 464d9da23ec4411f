package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// kubectlModule is kubectl, in a module of its own because of what it links.
const kubectlModule = "test/vm/kubectl"

// Kubectl returns the path of kubectl, of the release that is in the image. The
// first time it is built, in about two minutes, and kept in the user's cache.
func Kubectl(t *testing.T) string {
	t.Helper()
	path, err := BuildKubectl(t.Context(), repository(t))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// BuildKubectl is Kubectl for the repository at root.
func BuildKubectl(ctx context.Context, root string) (string, error) {
	dir := filepath.Join(root, kubectlModule)
	key := sha256.New()
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(key, "%s %d\n%s", name, len(b), b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "dactyl", fmt.Sprintf("kubectl-%.10x", key.Sum(nil)))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	version, err := goCommand(ctx, dir, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubectl")
	if err != nil {
		return "", err
	}
	// Kubernetes v1.36.3 has its parts as v0.36.3.
	version = strings.Replace(version, "v0.", "v1.", 1)
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if _, err := goCommand(ctx, dir, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion="+version, "-o", tmp, "."); err != nil {
		return "", err
	}
	return path, os.Rename(tmp, path)
}

func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w: %s", args[0], dir, err, complaint.String())
	}
	return strings.TrimSpace(string(out)), nil
}
