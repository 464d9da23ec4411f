// Command pull fetches an image with the code by which containerd does it, from the
// folder with which containerd is configured, and says how many bytes came. It is for
// tests: the image does not have it.
//
//	pull [--environment FILE] FOLDER IMAGE [USERNAME PASSWORD]
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dactyl-os/dactyl/buildkit/packages/kubernetes/environment"
)

func main() {
	args, err := environment.Take(os.Args)
	if err == nil && len(args) < 3 {
		err = fmt.Errorf("usage: pull [--environment FILE] FOLDER IMAGE [USERNAME PASSWORD]")
	}
	if err == nil {
		err = pull(context.Background(), args[1], args[2], append(args[3:], "", ""))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pull:", err)
		os.Exit(1)
	}
}

// pull does what containerd's interface for the kubelet does with an image's name.
func pull(ctx context.Context, folder, image string, login []string) error {
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: config.ConfigureHosts(ctx, config.HostOptions{
		HostDir:     config.HostDirFromRoot(folder),
		Credentials: func(string) (string, string, error) { return login[0], login[1], nil },
	})})
	name, target, err := resolver.Resolve(ctx, image)
	if err != nil {
		return err
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return err
	}
	text, err := fetch(ctx, fetcher, target)
	if err != nil {
		return err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		return err
	}
	total := len(text)
	for _, d := range append(manifest.Layers, manifest.Config) {
		blob, err := fetch(ctx, fetcher, d)
		if err != nil {
			return err
		}
		total += len(blob)
	}
	fmt.Println(total)
	return nil
}

func fetch(ctx context.Context, f remotes.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	r, err := f.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err == nil && digest.FromBytes(data) != d.Digest {
		err = fmt.Errorf("%s has the digest %s", d.Digest, digest.FromBytes(data))
	}
	return data, err
}
