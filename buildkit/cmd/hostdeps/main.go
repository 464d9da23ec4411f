// Command hostdeps installs the Debian packages that a build and its tests need and
// that are missing. When all are there it says nothing and takes no time.
//
//	go run ./buildkit/cmd/hostdeps          install what is missing
//	go run ./buildkit/cmd/hostdeps -check   only name it; exit 1 if something is
//	go run ./buildkit/cmd/hostdeps -list    all packages and what needs them
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/dactyl-os/dactyl/buildkit/hostdeps"
)

func main() {
	log.SetFlags(0)
	check := flag.Bool("check", false, "only name what is missing; exit 1 if something is")
	list := flag.Bool("list", false, "name all packages and what needs them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *list {
		show(hostdeps.Packages)
		return
	}
	missing, err := hostdeps.Missing(ctx, hostdeps.Packages)
	if err != nil {
		log.Fatal(err)
	}
	if *check {
		show(missing)
		os.Exit(min(len(missing), 1))
	}
	if err := hostdeps.Install(ctx, missing, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func show(packages []hostdeps.Package) {
	for _, p := range packages {
		fmt.Printf("%-20s %s\n", p.Name, p.Reason)
	}
}
