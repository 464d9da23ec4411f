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
	yaml := c.yaml()
	if yaml == "" {
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
	put.Stdin = strings.NewReader(yaml)
	if out, err := put.CombinedOutput(); err != nil {
		return "", fmt.Errorf("put cluster.yaml on the ESP: %w: %s", err, out)
	}
	return stick, nil
}

// yaml is what is put on the stick. QEMU's DHCP tells an Offline machine of no way
// out and no name server; one that has no way does not even try. Its only time
// server is on its own network.
func (c Config) yaml() string {
	out := c.YAML
	if c.NIC != Offline {
		return out
	}
	if !hasKey(out, "network") {
		out += "network: {interfaces: [{name: eth0, addresses: [10.0.2.15/24], gateway: 10.0.2.2}], nameservers: [10.0.2.3]}\n"
	}
	if !hasKey(out, "time") {
		out += "time: {servers: [10.0.2.2]}\n"
	}
	return out
}

// hasKey tells whether a line begins with the key.
func hasKey(yaml, key string) bool { return strings.Contains("\n"+yaml, "\n"+key+":") }

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
