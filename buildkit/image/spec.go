package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Spec is buildkit/image.toml.
type Spec struct {
	Root struct {
		Slot  Size `toml:"slot"`
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

// Size is a number of bytes, written "64MiB".
type Size int64

var units = []struct {
	suffix string
	shift  int
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}}

// UnmarshalText takes whole numbers of KiB, MiB, GiB or TiB.
func (s *Size) UnmarshalText(b []byte) error {
	for _, u := range units {
		digits, found := strings.CutSuffix(string(b), u.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64-u.shift)
		*s = Size(n << u.shift)
		return err
	}
	return fmt.Errorf("size %q: want a number and KiB, MiB, GiB or TiB", b)
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
