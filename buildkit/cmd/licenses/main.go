// Command licenses prints what is in a production image and under which licences,
// for docs/licenses.md; with -texts the file that goes into the image.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/dactyl-os/dactyl/buildkit/licenses"
	"github.com/dactyl-os/dactyl/buildkit/manifest"
)

func main() {
	texts := flag.Bool("texts", false, "print "+licenses.Path+" of the image")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *texts); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, texts bool) error {
	b, err := manifest.Read(ctx, ".", "production")
	if err != nil {
		return err
	}
	all, err := licenses.Read(ctx, ".", b, manifest.Tags("production"))
	if err != nil {
		return err
	}
	if texts {
		licenses.WriteTexts(os.Stdout, all)
		return nil
	}
	licenses.WriteTable(os.Stdout, all)
	return nil
}
