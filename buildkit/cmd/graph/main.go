// Command graph prints the authority graph of an image: every right with its
// reason, and who may call whom.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
)

func main() {
	mode := flag.String("mode", "production", "image mode: production, dev or test")
	flag.Parse()
	b, err := manifest.Read(context.Background(), ".", *mode)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	b.WriteGraph(os.Stdout)
}
