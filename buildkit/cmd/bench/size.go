package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dactyl-os/dactyl/buildkit/image"
	"github.com/dactyl-os/dactyl/buildkit/squashfs"
	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/buildkit/verity"
)

// sizes are of the production image, and of what it would be without Kubernetes.
func sizes(ctx context.Context, _ *bench) ([]result, error) {
	r, _, err := system.Image(ctx, "production", nil, os.Stderr)
	if err != nil {
		return nil, err
	}
	plain, err := withoutKubernetes(ctx, filepath.Join(system.Dir("production"), "root"))
	if err != nil {
		return nil, err
	}
	return []result{
		atMost("SquashFS with its verity tree, without Kubernetes", megabytes(plain), 28, "MB"),
		atMost("the same, all of Kubernetes included", megabytes(r.SquashFS+r.Verity), 80, "MB"),
		atMost("kernel in the UKI", megabytes(r.Kernel), 11, "MB"), // 9 before drivers of servers, Hyper-V and Atom boards, NFS, FUSE and xtables
	}, nil
}

// ofKubernetes is what a root has only for Kubernetes' sake. kubed, which is there to
// say that there is no cluster, is not among it.
var ofKubernetes = []string{"lib/kubernetes", "lib/pods", "lib64", "lib/x86_64-linux-gnu", "lib/dactyl/etcdd", "lib/dactyl/podd"}

// withoutKubernetes is how large a root and its tree are without it.
func withoutKubernetes(ctx context.Context, root string) (int64, error) {
	spec, err := image.LoadSpec("buildkit/image.toml")
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(root), "size-") // beside it, so that files can be linked
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	plain, out := filepath.Join(dir, "root"), filepath.Join(dir, "squashfs")
	if text, err := exec.CommandContext(ctx, "cp", "-al", root, plain).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("copy %s: %w: %s", root, err, text)
	}
	for _, path := range ofKubernetes {
		if _, err := os.Lstat(filepath.Join(plain, path)); err != nil {
			return 0, err
		}
		if err := os.RemoveAll(filepath.Join(plain, path)); err != nil {
			return 0, err
		}
	}
	if _, err := squashfs.Write(ctx, plain, out, squashfs.Options{BlockSize: int(spec.Root.Block), Level: spec.Root.Level, Time: system.Epoch}); err != nil {
		return 0, err
	}
	if err := os.Truncate(out, wholeBlocks(out)); err != nil {
		return 0, err
	}
	tree, err := verity.Append(out)
	return tree.Size, err
}

// wholeBlocks is a file's size as verity wants it.
func wholeBlocks(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return (st.Size() + verity.BlockSize - 1) / verity.BlockSize * verity.BlockSize
}

func megabytes(n int64) float64 { return float64(n) / 1e6 }
