package packages

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// recipe is changed when this package builds differently from equal inputs, so that
// caches made by the older recipe are not taken for the new one's.
const recipe = "3"

// CacheDir is where finished programs are kept unless the caller says otherwise.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache for the packages: %w", err)
	}
	return filepath.Join(dir, "dactyl", "packages"), nil
}

// Build returns everything that belongs in the image. It takes it from the cache or
// makes it; doc.go says how long that takes. An empty cache means CacheDir. One line
// per step is written to progress. It is to be called in the repository or below.
func Build(ctx context.Context, cache string, progress io.Writer) ([]File, error) {
	w, err := openWorkshop(ctx, cache, progress)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, p := range Packages {
		file, err := w.program(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", p.Name, err)
		}
		files = append(files, File{p.Name, file, p.Install[0], p.Install[1:]})
	}
	pause, err := w.pause(ctx)
	if err != nil {
		return nil, fmt.Errorf("build pause: %w", err)
	}
	debian, err := Debian(ctx)
	if err != nil {
		return nil, err
	}
	files = append(files, pause...)
	for _, f := range debian {
		files = append(files, f.File)
	}
	return files, nil
}

// Cached returns those programs of the table that are in the cache already, by name.
func Cached(ctx context.Context, cache string) (map[string]string, error) {
	w, err := openWorkshop(ctx, cache, io.Discard)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, p := range Packages {
		key, err := w.key(ctx, p)
		if err != nil {
			return nil, err
		}
		if file := w.file(key, p.Name); exists(file) {
			files[p.Name] = file
		}
	}
	return files, nil
}

// workshop is what all packages are built with.
type workshop struct {
	folder   string // this one, with the packages' modules
	cache    string
	goroot   string
	goTool   string // its version
	progress io.Writer
}

func openWorkshop(ctx context.Context, cache string, progress io.Writer) (*workshop, error) {
	folder, err := findFolder()
	if err != nil {
		return nil, err
	}
	if cache == "" {
		if cache, err = CacheDir(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	w := &workshop{folder: folder, cache: cache, progress: progress}
	// Asked where the build runs: its go.mod may choose another toolchain.
	out, err := w.goOutput(ctx, filepath.Join(folder, "kubernetes"), "env", "GOROOT", "GOVERSION")
	if err != nil {
		return nil, err
	}
	w.goroot, w.goTool, _ = strings.Cut(strings.TrimSpace(out), "\n")
	return w, nil
}

// findFolder looks for this folder from the working directory upwards.
func findFolder() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		folder := filepath.Join(dir, "buildkit", "packages")
		if exists(filepath.Join(folder, "kubernetes", "go.mod")) {
			return folder, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no buildkit/packages in %s or above: run it in the repository", here)
		}
	}
}

func (w *workshop) file(key, name string) string { return filepath.Join(w.cache, key, name) }

// program returns a package's program from the cache, or builds it.
func (w *workshop) program(ctx context.Context, p Package) (string, error) {
	key, err := w.key(ctx, p)
	if err != nil {
		return "", err
	}
	return w.make(ctx, key, p.Name, func(dir, out string) error {
		if err := w.compile(ctx, p, dir, out); err != nil {
			return err
		}
		return checkDeadCode(out)
	})
}

// make returns the file from the cache, or has it made in an empty directory, with
// whatever build puts beside it. All that appears in the cache complete or not at all.
func (w *workshop) make(ctx context.Context, key, name string, build func(dir, out string) error) (string, error) {
	file := w.file(key, name)
	if exists(file) {
		return file, nil
	}
	unlock, err := lock(ctx, filepath.Join(w.cache, "lock"), w.progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(file) {
		return file, nil // another process made it meanwhile
	}
	fmt.Fprintf(w.progress, "build %s\n", name)
	tmp := filepath.Join(w.cache, key+".tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	work, done := filepath.Join(tmp, "work"), filepath.Join(tmp, "done")
	for _, dir := range []string{work, done} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	if err := build(work, filepath.Join(done, name)); err != nil {
		return "", err
	}
	return file, os.Rename(done, filepath.Join(w.cache, key))
}
