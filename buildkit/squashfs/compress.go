package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// cacheAge is how long a block that no image used stays in the cache: long enough
// to go back and forth between branches, short enough that it does not only grow.
const cacheAge = 14 * 24 * time.Hour

// cacheFormat changes whenever the same block is to be compressed to other bytes.
const cacheFormat = "trimmed frames"

// compressor compresses blocks, remembering the results.
type compressor struct {
	level int
	dir   string // of this version and level; "" = remember nothing
	miss  missCount
}

// newCompressor finds the zstd command and the part of the cache that belongs to
// its version and level.
func newCompressor(ctx context.Context, cache string, level int) (*compressor, error) {
	version, err := exec.CommandContext(ctx, "zstd", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("squashfs: zstd --version: %w", err)
	}
	c := &compressor{level: level}
	if cache == "" {
		return c, nil
	}
	key := sha256.Sum256(append(version, cacheFormat...))
	c.dir = filepath.Join(cache, fmt.Sprintf("zstd-%d-%x", level, key[:6]))
	return c, os.MkdirAll(c.dir, 0o755)
}

// compress returns raw as one zstd frame, or nil when that would not be smaller.
func (c *compressor) compress(ctx context.Context, raw []byte) ([]byte, error) {
	packed, err := c.remembered(raw)
	if err != nil {
		c.miss.add(len(raw))
		if packed, err = c.run(ctx, raw); err != nil {
			return nil, err
		}
		if err := c.remember(raw, packed); err != nil {
			return nil, err
		}
	}
	if len(packed) >= len(raw) {
		return nil, nil
	}
	return packed, nil
}

// run calls zstd. The stream's size goes into the frame's header, so that the
// window never exceeds the block: the kernel allocates no more than that.
func (c *compressor) run(ctx context.Context, raw []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "zstd", "-q", "-c", "--ultra", fmt.Sprintf("-%d", c.level),
		"--single-thread", "--no-check", fmt.Sprintf("--stream-size=%d", len(raw)))
	var out, msg bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(raw), &out, &msg
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("squashfs: zstd -%d: %w: %s", c.level, err, strings.TrimSpace(msg.String()))
	}
	return trim(out.Bytes())
}

func (c *compressor) file(raw []byte) string {
	sum := sha256.Sum256(raw)
	name := hex.EncodeToString(sum[:])
	return filepath.Join(c.dir, name[:2], name[2:])
}

func (c *compressor) remembered(raw []byte) ([]byte, error) {
	if c.dir == "" {
		return nil, os.ErrNotExist
	}
	name := c.file(raw)
	packed, err := os.ReadFile(name)
	if err == nil {
		now := time.Now()
		err = os.Chtimes(name, now, now)
	}
	return packed, err
}

// remember stores packed under a temporary name first: a build that is interrupted
// must not leave half a block that the next one believes.
func (c *compressor) remember(raw, packed []byte) error {
	if c.dir == "" {
		return nil
	}
	name := c.file(raw)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(packed); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// prune forgets the blocks that no image has used for cacheAge.
func (c *compressor) prune() error {
	if c.dir == "" {
		return nil
	}
	names, err := filepath.Glob(filepath.Join(c.dir, "*", "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err == nil && time.Since(info.ModTime()) > cacheAge {
			os.Remove(name)
		}
	}
	return nil
}
