package kernel

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// recipe is changed when this package builds differently from equal inputs, so
// that caches made by the older recipe are not taken for the new one's.
const recipe = "3"

// sourceTarball is installed by Debian's package linux-source-6.12.
const sourceTarball = "/usr/src/linux-source-6.12.tar.xz"

//go:embed base.config
var baseConfig string

//go:embed hardening.config
var hardeningConfig string

// Result is a finished kernel in the cache. Only Config, Version and Key are set
// by ResolveConfig.
type Result struct {
	Image   string // the bzImage
	Config  string // the resolved configuration it was built from
	Symbols string // its System.map
	Version string // as uname -r says it
	Key     string // names all inputs; equal keys mean equal bytes
}

// CacheDir is where kernels are kept unless the caller says otherwise.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache for the kernel: %w", err)
	}
	return filepath.Join(dir, "dactyl", "kernel"), nil
}

// Build returns the kernel from the cache, or makes it, which takes about 27
// minutes of one processor. An empty cache means CacheDir. One line per step is
// written to progress.
func Build(ctx context.Context, cache string, progress io.Writer) (Result, error) {
	w, err := openWorkshop(ctx, cache, progress)
	if err != nil {
		return Result{}, err
	}
	if r, err := w.finished(); err == nil {
		return r, nil
	}
	unlock, err := lock(ctx, filepath.Join(w.cache, "lock"), progress)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if r, err := w.finished(); err == nil {
		return r, nil // another process made it meanwhile
	}
	if err := w.build(ctx); err != nil {
		return Result{}, err
	}
	return w.finished()
}

// ResolveConfig lays the fragments over upstream's defaults and returns what
// Kconfig makes of them, without compiling the kernel: about half a minute the
// first time, when the source is unpacked, and nothing afterwards.
func ResolveConfig(ctx context.Context, cache string, progress io.Writer) (Result, error) {
	w, err := openWorkshop(ctx, cache, progress)
	if err != nil {
		return Result{}, err
	}
	if r, err := w.resolved(); err == nil {
		return r, nil
	}
	unlock, err := lock(ctx, filepath.Join(w.cache, "lock"), progress)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	return w.resolve(ctx)
}

// Source returns the unpacked source tree that ResolveConfig left in the cache.
func Source(ctx context.Context, cache string) (string, error) {
	w, err := openWorkshop(ctx, cache, io.Discard)
	if err != nil {
		return "", err
	}
	return w.sourceDir(), nil
}

// workshop is one build's inputs and places.
type workshop struct {
	cache    string
	tarball  string // SHA-256 of the source, in hex
	key      string
	progress io.Writer
}

func openWorkshop(ctx context.Context, cache string, progress io.Writer) (*workshop, error) {
	if cache == "" {
		dir, err := CacheDir()
		if err != nil {
			return nil, err
		}
		cache = dir
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	sum, err := hashFile(sourceTarball)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the kernel's source %s is not here; get it with: apt-get install --no-install-recommends linux-source-6.12", sourceTarball)
	}
	if err != nil {
		return nil, err
	}
	tools, err := toolVersions(ctx)
	if err != nil {
		return nil, err
	}
	key := hashText(recipe, sum, settings(baseConfig), settings(hardeningConfig), tools)[:20]
	return &workshop{cache: cache, tarball: sum, key: key, progress: progress}, nil
}

func (w *workshop) sourceDir() string {
	return filepath.Join(w.cache, "src-"+hashText(recipe, w.tarball)[:16])
}
func (w *workshop) configDir() string { return filepath.Join(w.cache, "config-"+w.key) }
func (w *workshop) finalDir() string  { return filepath.Join(w.cache, w.key) }

// finished returns the kernel that is already in the cache.
func (w *workshop) finished() (Result, error) {
	dir := w.finalDir()
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return Result{}, err
	}
	return Result{
		Image:   filepath.Join(dir, "bzImage"),
		Config:  filepath.Join(dir, "config"),
		Symbols: filepath.Join(dir, "System.map"),
		Version: strings.TrimSpace(string(version)),
		Key:     w.key,
	}, nil
}

// resolved returns the configuration that is already in the cache.
func (w *workshop) resolved() (Result, error) {
	version, err := os.ReadFile(filepath.Join(w.configDir(), "version"))
	if err != nil {
		return Result{}, err
	}
	return Result{
		Config:  filepath.Join(w.configDir(), "config"),
		Version: strings.TrimSpace(string(version)),
		Key:     w.key,
	}, nil
}

// resolve needs the lock.
func (w *workshop) resolve(ctx context.Context) (Result, error) {
	if r, err := w.resolved(); err == nil {
		return r, nil
	}
	dir := w.configDir()
	if err := w.unpack(ctx); err != nil {
		return Result{}, err
	}
	tmp := dir + ".tmp"
	if err := freshDir(tmp); err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(tmp)
	fragments := baseConfig + "\n" + hardeningConfig
	if err := os.WriteFile(filepath.Join(tmp, ".config"), []byte(fragments), 0o644); err != nil {
		return Result{}, err
	}
	if err := w.make(ctx, tmp, nil, "olddefconfig"); err != nil {
		return Result{}, err
	}
	version, err := w.release(ctx, tmp)
	if err != nil {
		return Result{}, err
	}
	err = publish(dir, []artefact{
		{name: "config", from: filepath.Join(tmp, ".config")},
		{name: "version", text: version + "\n"},
	})
	if err != nil {
		return Result{}, err
	}
	return w.resolved()
}

// build needs the lock.
func (w *workshop) build(ctx context.Context) error {
	resolved, err := w.resolve(ctx)
	if err != nil {
		return err
	}
	if err := checkVersion(resolved.Version); err != nil {
		return err
	}
	if err := w.unpack(ctx); err != nil {
		return err
	}
	tmp := w.finalDir() + ".tmp"
	if err := freshDir(tmp); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(tmp, ".config"), resolved.Config); err != nil {
		return err
	}
	seeds, err := w.plantSeeds(tmp, resolved.Config)
	if err != nil {
		return err
	}
	if err := w.make(ctx, tmp, seeds, "bzImage"); err != nil {
		return err // tmp stays, to be looked at; the next build clears it
	}
	err = publish(w.finalDir(), []artefact{
		{name: "bzImage", from: filepath.Join(tmp, "arch/x86/boot/bzImage")},
		{name: "System.map", from: filepath.Join(tmp, "System.map")},
		{name: "config", from: resolved.Config},
		{name: "version", text: resolved.Version + "\n"},
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(tmp)
}

// plantSeeds fixes what an ordinary build takes from /dev/urandom and returns
// make's arguments for it. See "Reproducible" in doc.go.
func (w *workshop) plantSeeds(dir, config string) ([]string, error) {
	sum, err := hashFile(config)
	if err != nil {
		return nil, err
	}
	seed := sha256.Sum256([]byte("dactyl randstruct\n" + w.tarball + "\n" + sum + "\n"))
	text := hex.EncodeToString(seed[:])
	hash := sha256.Sum256([]byte(text))
	// The kernel's own gen-randstruct-seed.sh, with a constant for its od(1).
	script := fmt.Sprintf("echo %s > \"$1\"\necho '#define RANDSTRUCT_HASHED_SEED \"%x\"' > \"$2\"\n", text, hash)
	path := filepath.Join(dir, "randstruct-seed.sh")
	if err := os.WriteFile(path, []byte(script), 0o644); err != nil {
		return nil, err
	}
	return []string{
		"gen-randstruct-seed=" + path,
		"KCFLAGS=-frandom-seed=" + text[:16],
	}, nil
}

// release asks the configured tree for what uname -r will say.
func (w *workshop) release(ctx context.Context, dir string) (string, error) {
	args := append(w.makeArgs(dir), "--no-print-directory", "-s", "kernelrelease")
	cmd := exec.CommandContext(ctx, "make", args...)
	cmd.Env = makeEnv()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("make kernelrelease: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
