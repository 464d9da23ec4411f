package main

import (
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/cmd/containerd/command"

	"github.com/dactyl-os/dactyl/buildkit/packages/kubernetes/environment"
)

func containerd() int {
	args, err := environment.Take(os.Args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "containerd: %s\n", err)
		return 1
	}
	os.Args = args
	if err := command.App().Run(os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "containerd: %s\n", err)
		return 1
	}
	return 0
}
