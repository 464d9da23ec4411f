// Command build makes a disk image of Dactyl from this repository: kernel,
// programs, root filesystem, signed boot files. It shows its progress, and writes all
// output to out/<mode>/build.log.
//
//	go run ./buildkit/cmd/build -mode dev
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/image"
	"github.com/dactyl-os/dactyl/buildkit/progress"
	"github.com/dactyl-os/dactyl/buildkit/system"
)

func main() {
	mode := flag.String("mode", "production", "image `mode`: production, dev (single daemons can be replaced) or test")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *mode); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, mode string) error {
	start := time.Now()
	report, err := progress.Open(os.Stderr, system.Log(mode))
	if err != nil {
		return err
	}
	result, path, err := system.Image(ctx, mode, nil, report)
	if err := report.Close(err); err != nil {
		return err
	}
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(system.Dir(mode), "image.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	print(os.Stdout, result)
	fmt.Printf("%s  (%.1f s)\n", path, time.Since(start).Seconds())
	return nil
}

func print(w io.Writer, r image.Result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		name  string
		bytes int64
	}{
		{"SquashFS", r.SquashFS}, {"verity tree", r.Verity}, {"kernel", r.Kernel}, {"UKI", r.UKI}, {"disk", r.Disk},
	} {
		fmt.Fprintf(t, "%s\t%d bytes\t%.2f MB\t\n", row.name, row.bytes, float64(row.bytes)/1e6)
	}
	t.Flush()
	fmt.Fprintf(w, "root hash %s\n", r.RootHash)
}
