package image

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Spec is buildkit/image.toml.
type Spec struct {
	Root struct {
		Slot  Size `toml:"slot"`
		Most  Size `toml:"most"` // of the SquashFS, without its verity tree
		Block Size `toml:"block"`
		Level int  `toml:"level"`
	} `toml:"root"`
	ESP struct {
		Size Size `toml:"size"`
	} `toml:"esp"`
	State     Volume `toml:"state"`
	Ephemeral Volume `toml:"ephemeral"`
	Boot      struct {
		CommandLine []string `toml:"command_line"`
	} `toml:"boot"`
}

// Volume is an empty ext4 filesystem.
type Volume struct {
	Size    Size `toml:"size"`
	Journal Size `toml:"journal"`
	GrowTo  Size `toml:"grow_to"` // 0: it will not grow
}

// Size is a number of bytes, written "64MiB" or "80MB".
type Size int64

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"MB", 1e6}}

// UnmarshalText takes whole numbers of KiB, MiB, GiB, TiB or MB.
func (s *Size) UnmarshalText(b []byte) error {
	for _, u := range units {
		digits, found := strings.CutSuffix(string(b), u.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err == nil && (n < 0 || n > math.MaxInt64/u.bytes) {
			err = strconv.ErrRange
		}
		*s = Size(n * u.bytes)
		return err
	}
	return fmt.Errorf("size %q: want a number and KiB, MiB, GiB, TiB or MB", b)
}

// LoadSpec reads a spec; an unknown key is an error.
func LoadSpec(name string) (Spec, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return Spec{}, err
	}
	var s Spec
	err = toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&s)
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		return Spec{}, fmt.Errorf("%s: unknown key:\n%s", name, unknown.String())
	}
	if err != nil {
		return Spec{}, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}
