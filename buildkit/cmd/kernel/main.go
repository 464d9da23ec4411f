// Command kernel makes the kernel, or finds it in the cache, and prints the path
// of its bzImage. With -config-only it prints the path of the resolved
// configuration and compiles nothing.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/kernel"
)

func main() {
	verbose := flag.Bool("v", false, "print every step")
	configOnly := flag.Bool("config-only", false, "resolve the configuration and print its path")
	cache := flag.String("cache", "", "`directory` of finished kernels (default: the user's cache)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	path, err := makeKernel(ctx, *cache, *configOnly, progressTo(os.Stderr, *verbose))
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernel:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func makeKernel(ctx context.Context, cache string, configOnly bool, progress io.Writer) (string, error) {
	if configOnly {
		r, err := kernel.ResolveConfig(ctx, cache, progress)
		return r.Config, err
	}
	r, err := kernel.Build(ctx, cache, progress)
	return r.Image, err
}

// progressTo shows all lines or, for people, one in ten seconds with the count.
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
	s.steps += bytes.Count(p, []byte("\n"))
	if now := time.Now(); now.After(s.next) {
		s.next = now.Add(10 * time.Second)
		fmt.Fprintf(s.w, "kernel: step %d: %s", s.steps, p)
	}
	return len(p), nil
}
