package main

import (
	"context"
	"os"

	"github.com/dactyl-os/dactyl/buildkit/system"
)

// sizes are of the production image.
func sizes(ctx context.Context, _ *bench) ([]result, error) {
	r, _, err := system.Image(ctx, "production", nil, os.Stderr)
	if err != nil {
		return nil, err
	}
	return []result{
		atMost("SquashFS with its verity tree, without Kubernetes", megabytes(r.SquashFS+r.Verity), 28, "MB"),
		atMost("kernel in the UKI", megabytes(r.Kernel), 9, "MB"),
	}, nil
}

func megabytes(n int64) float64 { return float64(n) / 1e6 }
