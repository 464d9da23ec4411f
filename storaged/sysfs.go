package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sysfs reads block devices from where sysfs is mounted.
type sysfs string

// block is one of them.
type block struct {
	name   string
	path   string // of its directory in sysfs: devices/…/block/sda/sda5
	dev    string // major:minor
	disk   string // of a partition
	number int    // of a partition, from 1
}

// blocks lists them: disks by name, each with its partitions by number behind it.
func (s sysfs) blocks() ([]block, error) {
	list, err := os.ReadDir(filepath.Join(string(s), "class/block"))
	if err != nil {
		return nil, err
	}
	var blocks []block
	for _, e := range list {
		link, err := os.Readlink(filepath.Join(string(s), "class/block", e.Name()))
		if err != nil {
			continue // it was unplugged meanwhile
		}
		b := block{name: e.Name(), path: path.Join("class/block", link)}
		b.dev = s.text(b, "dev")
		if n := s.number(b, "partition"); n > 0 {
			b.number, b.disk = int(n), path.Base(path.Dir(b.path))
		}
		blocks = append(blocks, b)
	}
	slices.SortStableFunc(blocks, func(a, b block) int {
		if c := strings.Compare(a.owner(), b.owner()); c != 0 {
			return c
		}
		return a.number - b.number
	})
	return blocks, nil
}

// owner is the disk that b is or is on.
func (b block) owner() string {
	if b.disk != "" {
		return b.disk
	}
	return b.name
}

// text is the content of an attribute; "" if the device has no such.
func (s sysfs) text(b block, attribute string) string {
	return s.read(path.Join(b.path, attribute))
}

func (s sysfs) read(name string) string {
	content, err := os.ReadFile(filepath.Join(string(s), name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

func (s sysfs) exists(b block, attribute string) bool {
	_, err := os.Stat(filepath.Join(string(s), b.path, attribute))
	return err == nil
}

func (s sysfs) number(b block, attribute string) uint64 {
	n, _ := strconv.ParseUint(s.text(b, attribute), 10, 64)
	return n
}

// label is a partition's name in the GPT.
func (s sysfs) label(b block) string {
	for line := range strings.Lines(s.text(b, "uevent")) {
		if name, ok := strings.CutPrefix(line, "PARTNAME="); ok {
			return strings.TrimRight(name, "\n")
		}
	}
	return ""
}

// verityRoot returns the partition under the device-mapper device dev, or "" if dev
// is something else.
func (s sysfs) verityRoot(all []block, dev string) (string, error) {
	i := slices.IndexFunc(all, func(b block) bool { return b.dev == dev })
	if i < 0 || s.text(all[i], "dm/uuid") == "" && s.text(all[i], "dm/name") == "" {
		return "", nil
	}
	slaves, err := os.ReadDir(filepath.Join(string(s), all[i].path, "slaves"))
	if err != nil {
		return "", err
	}
	if len(slaves) != 1 {
		return "", fmt.Errorf("%s is made of %d devices, want one", all[i].name, len(slaves))
	}
	return slaves[0].Name(), nil
}

// model and serial are where each kind of driver puts them.
func (s sysfs) model(b block) string {
	return s.first(b, "device/model", "device/name")
}

func (s sysfs) serial(b block) string {
	if serial := s.first(b, "serial", "device/serial"); serial != "" {
		return serial
	}
	// SCSI's page of vital product data: a header of four bytes, then the text.
	if page := s.text(b, "device/vpd_pg80"); len(page) > 4 {
		return strings.TrimSpace(page[4:])
	}
	// A USB device says it for all that is in it.
	for dir := path.Dir(b.path); strings.Contains(dir, "/usb"); dir = path.Dir(dir) {
		if serial := s.read(path.Join(dir, "serial")); serial != "" {
			return serial
		}
	}
	return ""
}

func (s sysfs) first(b block, attributes ...string) string {
	for _, a := range attributes {
		if t := s.text(b, a); t != "" {
			return t
		}
	}
	return ""
}

// transports by how the name of a directory above the device begins; the first
// that fits counts: a USB bridge to a SATA disk is USB.
var transports = []struct{ prefix, transport string }{
	{"usb", "usb"}, {"nvme", "nvme"}, {"mmc", "mmc"}, {"ata", "sata"}, {"virtio", "virtio"},
}

// transport says over what the machine speaks to the device; "" where unknown.
func transport(devicePath string) string {
	parts := strings.Split(devicePath, "/")
	for _, t := range transports {
		for _, p := range parts {
			rest, ok := strings.CutPrefix(p, t.prefix)
			if ok && rest != "" && (rest[0] >= '0' && rest[0] <= '9' || rest[0] == '-') {
				return t.transport
			}
		}
	}
	return ""
}
