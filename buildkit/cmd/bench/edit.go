package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// edited is the file that gets one more line.
const edited = "networkd/main.go"

// edit measures make image after a change of one line in one daemon, in a copy of
// the tree whose image was built before.
func edit(ctx context.Context, b *bench) ([]result, error) {
	dir, err := os.MkdirTemp("", "dactyl-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := copyTree(ctx, dir); err != nil {
		return nil, err
	}
	if _, err := makeImage(ctx, dir); err != nil {
		return nil, err
	}
	var times []time.Duration
	for i := range b.times(3, 1) {
		if err := appendLine(filepath.Join(dir, edited), fmt.Sprintf("func init() { println(%d) }", i)); err != nil {
			return nil, err
		}
		t, err := makeImage(ctx, dir)
		if err != nil {
			return nil, err
		}
		times = append(times, t)
	}
	return []result{atMost("make image after a change of one line in one daemon", percentile(times, 50).Seconds(), 15, "s")}, nil
}

// copyTree copies the repository without what was built and without its history.
func copyTree(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(".")
	if err != nil {
		return err
	}
	args := []string{"-a", "-t", dir}
	for _, e := range entries {
		if e.Name() != "out" && e.Name() != ".git" {
			args = append(args, e.Name())
		}
	}
	if out, err := exec.CommandContext(ctx, "cp", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the tree: %w: %s", err, out)
	}
	return nil
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, line)
	return err
}

func makeImage(ctx context.Context, dir string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "make", "image")
	cmd.Dir = dir
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("make image: %w\n%s", err, out)
	}
	return time.Since(begin), nil
}
