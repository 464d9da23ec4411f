// Command image makes a raw disk image and prints how large its parts are.
//
//	go run ./buildkit/cmd/image -root DIR -kernel FILE -version 1.0.0 -out out/dactyl.raw
//
// Keys to sign with are made in the user's cache directory if there are none.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/image"
	"github.com/dactyl-os/dactyl/buildkit/sign"
)

// options are the command line.
type options struct {
	in                              image.Inputs
	spec, keys, out, mode, jsonFile string
	epoch                           int64
}

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, parse()); err != nil {
		log.Fatal(err)
	}
}

func parse() *options {
	o := &options{in: image.Inputs{ESPFiles: map[string]string{}}}
	flag.StringVar(&o.in.Root, "root", "", "staged root `directory`")
	flag.StringVar(&o.in.Kernel, "kernel", "", "bzImage `file`")
	flag.StringVar(&o.in.Version, "version", "0.0.0", "the image's `version`")
	flag.StringVar(&o.mode, "mode", string(image.Production), "production, dev or test")
	flag.StringVar(&o.spec, "spec", "buildkit/image.toml", "the layout's `file`")
	flag.StringVar(&o.keys, "keys", "", "`directory` of the signing keys (default: in the user's cache, made when missing)")
	flag.StringVar(&o.out, "out", "out/dactyl.raw", "image `file` to write")
	flag.StringVar(&o.jsonFile, "json", "", "also write the result as JSON to this `file`")
	flag.Int64Var(&o.epoch, "epoch", 1767225600, "`seconds` since 1970: the time of every file in the image (default: 2026)")
	flag.Func("append", "kernel `parameters`; may be repeated", func(s string) error {
		o.in.CommandLine = append(o.in.CommandLine, strings.Fields(s)...)
		return nil
	})
	flag.Func("esp-file", "put a file on the ESP: `name=path`; may be repeated", func(s string) error {
		name, path, found := strings.Cut(s, "=")
		if !found {
			return fmt.Errorf("want name=path")
		}
		maps.Copy(o.in.ESPFiles, map[string]string{name: path})
		return nil
	})
	flag.Parse()
	return o
}

func run(ctx context.Context, o *options) (err error) {
	o.in.Mode, o.in.Epoch = image.Mode(o.mode), time.Unix(o.epoch, 0)
	if o.in.Spec, err = image.LoadSpec(o.spec); err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	o.in.Cache = filepath.Join(cache, "dactyl", "squashfs")
	if o.in.Keys, err = loadKeys(o.keys, o.mode); err != nil {
		return err
	}
	start := time.Now()
	r, err := image.Make(ctx, o.in, o.out)
	if err != nil {
		return err
	}
	printSizes(os.Stdout, r)
	fmt.Printf("%s in %.1f s\n", o.out, time.Since(start).Seconds())
	return writeJSON(o.jsonFile, r)
}

// loadKeys makes keys only in the default place: a directory that was named and has
// none is a mistake.
func loadKeys(dir, mode string) (sign.Keys, error) {
	if dir != "" {
		return sign.Load(dir)
	}
	return sign.ForMode(mode)
}

func printSizes(w io.Writer, r image.Result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		name  string
		bytes int64
	}{
		{"squashfs", r.SquashFS}, {"verity tree", r.Verity}, {"kernel", r.Kernel}, {"UKI", r.UKI}, {"disk", r.Disk},
		{"compressed anew", r.Compressed},
	} {
		fmt.Fprintf(t, "%s\t%d\t%.1f MB\t\n", row.name, row.bytes, float64(row.bytes)/1e6)
	}
	t.Flush()
	fmt.Fprintf(w, "root hash %s\nROOT-A    PARTUUID=%s\n", r.RootHash, r.PartUUID)
}

func writeJSON(name string, r image.Result) error {
	if name == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}
