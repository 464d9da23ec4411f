package packages

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// PauseImage is the name of the pause image. Names under .invalid can belong to
// nobody, so if the image is ever missing there is no registry that could give a
// node another one under its name.
const PauseImage = "dactyl.invalid/pause:1"

// pauseFlags make a program without C library, build ID and symbols. One segment of
// code is all it has, so it is not aligned to pages on disk either.
var pauseFlags = []string{
	"-static", "-nostdlib", "-ffreestanding", "-Os", "-Wall", "-Wextra", "-Werror",
	"-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none",
	"-Wl,--build-id=none,-s,-n,-z,noexecstack",
}

// pause returns the program, which is also the first process of the domain in which
// the pods live, and the image with it, an archive to import into containerd.
func (w *workshop) pause(ctx context.Context) ([]File, error) {
	source := filepath.Join(w.folder, "pause", "pause.c")
	text, err := os.ReadFile(source)
	if err != nil {
		return nil, err
	}
	compiler, err := exec.CommandContext(ctx, "gcc", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("gcc --version: %w", err)
	}
	key := "pause-" + hashText(recipe, string(text), strings.Join(pauseFlags, " "), string(compiler))[:20]
	program, err := w.make(ctx, key, "pause", func(_, out string) error {
		cmd := exec.CommandContext(ctx, "gcc", append(pauseFlags, "-o", out, source)...)
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("compile %s: %w\n%s", source, err, said)
		}
		code, err := os.ReadFile(out)
		if err != nil {
			return err
		}
		return writeImage(out+".tar", Image{Name: PauseImage, Program: "pause", Content: code, User: "65535:65535"})
	})
	return []File{
		{Package: "pause", From: program, Path: "/lib/pods/pause"},
		{Package: "pause", From: program + ".tar", Path: "/lib/pods/images/pause.tar"},
	}, err
}
