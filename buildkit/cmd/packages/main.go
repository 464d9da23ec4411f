// Command packages builds what the image has from others, or finds it in the cache, and
// prints what each file costs: its size, and its size in the image. On a machine that has
// nothing but Go it installs what it needs.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/hostdeps"
	"github.com/dactyl-os/dactyl/buildkit/packages"
	"github.com/dactyl-os/dactyl/buildkit/squashfs"
)

func main() {
	verbose := flag.Bool("v", false, "print every Go package that is compiled")
	cache := flag.String("cache", "", "`directory` of finished programs (default: the user's cache)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *cache, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cache string, verbose bool) error {
	missing, err := hostdeps.Missing(ctx, hostPackages())
	if err != nil {
		return err
	}
	if err := hostdeps.Install(ctx, missing, os.Stderr); err != nil {
		return err
	}
	files, err := packages.Build(ctx, cache, progressTo(os.Stderr, verbose))
	if err != nil {
		return err
	}
	return printSizes(ctx, os.Stdout, files)
}

func hostPackages() []hostdeps.Package {
	return slices.DeleteFunc(slices.Clone(hostdeps.Packages), func(p hostdeps.Package) bool {
		return !slices.Contains(packages.HostPackages, p.Name)
	})
}

func printSizes(ctx context.Context, out io.Writer, files []packages.File) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "on the machine\tbytes\tin the image\tbuilt here\t")
	var bytes, packed int64
	for _, f := range files {
		info, err := os.Stat(f.From)
		if err != nil {
			return err
		}
		small, err := compressed(ctx, f.From)
		if err != nil {
			return err
		}
		bytes, packed = bytes+info.Size(), packed+small
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t\n", f.Path, info.Size(), small, f.From)
	}
	fmt.Fprintf(w, "all\t%d\t%d\t\t\n", bytes, packed)
	return w.Flush()
}

// compressed is what a file adds to a SquashFS with the settings of image.toml.
func compressed(ctx context.Context, file string) (int64, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "packages-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(root, "file"), text, 0o644); err != nil {
		return 0, err
	}
	stats, err := squashfs.Write(ctx, root, filepath.Join(dir, "image"), squashfs.Options{
		BlockSize: 256 << 10, Level: 19, Time: time.Unix(0, 0),
		Cache: filepath.Join(cache, "dactyl", "squashfs"), // the image's: it compresses them no more
	})
	return stats.Bytes, err
}

// progressTo shows all lines or, for people, the names of what is built and in
// between one line in ten seconds.
func progressTo(w io.Writer, verbose bool) io.Writer {
	if verbose {
		return w
	}
	return &sampler{w: w, next: time.Now().Add(3 * time.Second)}
}

// sampler is written to by one goroutine, one line at a time.
type sampler struct {
	w     io.Writer
	steps int
	next  time.Time
}

func (s *sampler) Write(p []byte) (int, error) {
	s.steps++
	headline := bytes.HasPrefix(p, []byte("build ")) || bytes.HasPrefix(p, []byte("another "))
	if now := time.Now(); headline || now.After(s.next) {
		s.next = now.Add(10 * time.Second)
		fmt.Fprintf(s.w, "packages: step %d: %s", s.steps, p)
	}
	return len(p), nil
}
