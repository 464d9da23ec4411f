// Command vulncheck looks for known vulnerabilities in every Go program of a production
// image, which it stages for that. It fails when it finds one; see buildkit/vulncheck.
//
//	vulncheck             without the database it says so and is content
//	vulncheck -strict     without the database it fails: for releases
package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/buildkit/vulncheck"
)

func main() {
	strict := flag.Bool("strict", false, "fail when the database cannot be reached")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx)
	if errors.Is(err, vulncheck.ErrNoDatabase) && !*strict {
		fmt.Fprintln(os.Stderr, "vulncheck: NOTHING WAS CHECKED:", err)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vulncheck:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	db, err := vulncheck.OpenDatabase(ctx)
	if err != nil {
		return err
	}
	version, err := system.Version()
	if err != nil {
		return err
	}
	root := filepath.Join(system.Dir("vulncheck"), "root")
	if _, err := system.Stage(ctx, "production", version, root, os.Stderr); err != nil {
		return err
	}
	programs, err := goPrograms(root)
	if err != nil {
		return err
	}
	found, err := vulncheck.Check(ctx, db, programs, os.Stderr)
	for _, f := range found {
		fmt.Println(f)
	}
	if len(found) > 0 {
		err = errors.Join(err, fmt.Errorf("%d vulnerabilities in %d programs", len(found), len(programs)))
	}
	if err == nil {
		fmt.Printf("vulncheck: %d programs, nothing known to be wrong (database of %s)\n", len(programs), db.Modified)
	}
	return err
}

func goPrograms(root string) ([]string, error) {
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if _, err := buildinfo.ReadFile(path); err == nil {
			all = append(all, path)
		}
		return nil
	})
	return all, err
}
