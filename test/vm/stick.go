package vm

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// stick returns the image that the machine's disk is a layer over: the image
// itself, or a copy with the YAML on its ESP.
func (c Config) stick(ctx context.Context) (string, error) {
	if c.YAML == "" {
		return filepath.Abs(c.Image)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return "", err
	}
	stick := filepath.Join(dir, "stick.raw")
	// cp leaves holes where the image has them: a tenth of its size is copied.
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", c.Image, stick).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy %s: %w: %s", c.Image, err, out)
	}
	offset, err := espOffset(stick)
	if err != nil {
		return "", fmt.Errorf("find the ESP of %s: %w", c.Image, err)
	}
	put := exec.CommandContext(ctx, "mcopy", "-o", "-i", fmt.Sprintf("%s@@%d", stick, offset), "-", "::/cluster.yaml")
	put.Stdin = strings.NewReader(c.YAML)
	if out, err := put.CombinedOutput(); err != nil {
		return "", fmt.Errorf("put cluster.yaml on the ESP: %w: %s", err, out)
	}
	return stick, nil
}

// espType is the GPT's type of EFI system partitions, as it is on the disk.
const espType = "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"

// espOffset returns where the EFI system partition of a disk begins, in bytes.
func espOffset(disk string) (int64, error) {
	f, err := os.Open(disk)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const sector, entries, entrySize = 512, 128, 128
	table := make([]byte, entries*entrySize)
	if _, err := io.ReadFull(io.NewSectionReader(f, 2*sector, int64(len(table))), table); err != nil {
		return 0, err
	}
	for e := table; len(e) > 0; e = e[entrySize:] {
		if string(e[:16]) == espType {
			return int64(binary.LittleEndian.Uint64(e[32:])) * sector, nil
		}
	}
	return 0, fmt.Errorf("%s has no EFI system partition", disk)
}
