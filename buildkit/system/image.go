package system

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dactyl-os/dactyl/buildkit/image"
	"github.com/dactyl-os/dactyl/buildkit/kernel"
	"github.com/dactyl-os/dactyl/buildkit/sign"
)

// Version reads the version of the system from the file VERSION.
func Version() (string, error) {
	b, err := os.ReadFile("VERSION")
	return strings.TrimSpace(string(b)), err
}

// Dir is where everything of an image of the given mode is built.
func Dir(mode string) string { return filepath.Join("out", mode) }

// Log is the file with the whole output of the last build of an image of the given mode.
func Log(mode string) string { return filepath.Join(Dir(mode), "build.log") }

// Image builds everything of an image of the given mode and returns what it is
// made of and the path of the disk image. espFiles (path on the ESP → file) are
// added to the ESP. It is to be called in the repository's root directory. Two
// calls for one mode wait for each other.
func Image(ctx context.Context, mode string, espFiles map[string]string, log io.Writer) (image.Result, string, error) {
	out := filepath.Join(Dir(mode), "dactyl.raw")
	version, err := Version()
	if err != nil {
		return image.Result{}, "", err
	}
	fmt.Fprintln(log, "build: the kernel")
	k, err := kernel.Build(ctx, "", log)
	if err != nil {
		return image.Result{}, "", err
	}
	root := filepath.Join(Dir(mode), "root")
	unlock, err := lock(ctx, root+".lock", log)
	if err != nil {
		return image.Result{}, "", err
	}
	defer unlock()
	fmt.Fprintf(log, "build: programs of the %s image\n", mode)
	_, linked, err := stage(ctx, mode, version, root, log)
	if err != nil {
		return image.Result{}, "", err
	}
	if err := writeSBOM(ctx, mode, version, root, linked); err != nil {
		return image.Result{}, "", err
	}
	in, err := inputs(mode, version, root, k)
	if err != nil {
		return image.Result{}, "", err
	}
	in.ESPFiles = espFiles
	fmt.Fprintf(log, "build: %s\n", out)
	result, err := image.Make(ctx, in, out)
	return result, out, err
}

func inputs(mode, version, root string, k kernel.Result) (image.Inputs, error) {
	spec, err := image.LoadSpec("buildkit/image.toml")
	if err != nil {
		return image.Inputs{}, err
	}
	keys, err := sign.ForMode(mode)
	if err != nil {
		return image.Inputs{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return image.Inputs{}, err
	}
	var choices []kernel.Choice
	if mode != "production" {
		choices = append(choices, kernel.AutoPTI)
	}
	return image.Inputs{
		Spec: spec, Root: root, Kernel: k.Image, KernelRelease: k.Version,
		CommandLine: strings.Fields(kernel.CommandLine(choices...)),
		Version:     version, Mode: image.Mode(mode), Epoch: Epoch, Keys: keys,
		Cache: filepath.Join(cache, "dactyl", "squashfs"),
	}, nil
}
