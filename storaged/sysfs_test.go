package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/storage"
)

// attributes of a machine with a USB stick that it booted from, an NVMe disk, and
// things that are no disks; paths and contents are copied from real ones.
var attributes = map[string]string{
	usbDisk + "/dev":                      "8:0",
	usbDisk + "/size":                     "16777216",
	usbDisk + "/removable":                "1",
	usbDisk + "/device/model":             "Ultra Fit       ",
	usbDisk + "/sda1/dev":                 "8:1",
	usbDisk + "/sda1/partition":           "1",
	usbDisk + "/sda1/start":               "2048",
	usbDisk + "/sda1/size":                "131072",
	usbDisk + "/sda1/uevent":              "MAJOR=8\nMINOR=1\nDEVNAME=sda1\nPARTN=1\nPARTNAME=ESP\n",
	usbDisk + "/sda2/dev":                 "8:2",
	usbDisk + "/sda2/partition":           "2",
	usbDisk + "/sda2/start":               "133120",
	usbDisk + "/sda2/size":                "262144",
	usbDisk + "/sda2/uevent":              "PARTN=2\nPARTNAME=ROOT-A\n",
	usbDisk + "/sda10/partition":          "10",
	usb + "/serial":                       "4C530001",
	nvme + "/dev":                         "259:0",
	nvme + "/size":                        "1000215216",
	nvme + "/device/model":                "Samsung SSD 970 EVO Plus 500GB",
	nvme + "/device/serial":               "S4EVNX0R",
	nvme + "/ro":                          "1",
	"devices/virtual/block/dm-0/dev":      "252:0",
	"devices/virtual/block/dm-0/size":     "200000",
	"devices/virtual/block/dm-0/dm/name":  "dactyl-root",
	"devices/virtual/block/loop0/dev":     "7:0",
	"devices/virtual/block/loop0/size":    "8",
	"devices/virtual/block/dm-0/slaves/x": "",
	cardReader + "/dev":                   "8:16",
	cardReader + "/size":                  "0",
	cardReader + "/device/model":          "Card Reader",
}

const (
	usb        = "devices/pci0000:00/0000:00:14.0/usb2/2-3"
	usbDisk    = usb + "/2-3:1.0/host6/target6:0:0/6:0:0:0/block/sda"
	nvme       = "devices/pci0000:00/0000:00:1d.0/0000:3d:00.0/nvme/nvme0/nvme0n1"
	cardReader = "devices/pci0000:00/0000:00:14.0/usb2/2-4/2-4:1.0/host7/target7:0:0/7:0:0:0/block/sdb"
)

func fakeSysfs(t *testing.T) sysfs {
	t.Helper()
	dir := t.TempDir()
	for name, content := range attributes {
		put(t, filepath.Join(dir, name), content+"\n")
	}
	slaves := filepath.Join(dir, "devices/virtual/block/dm-0/slaves")
	os.Rename(filepath.Join(slaves, "x"), filepath.Join(slaves, "sda2"))
	for _, p := range []string{usbDisk, usbDisk + "/sda1", usbDisk + "/sda2", usbDisk + "/sda10", nvme, cardReader, "devices/virtual/block/dm-0", "devices/virtual/block/loop0"} {
		link := filepath.Join(dir, "class/block", filepath.Base(p))
		os.MkdirAll(filepath.Dir(link), 0o755)
		if err := os.Symlink("../../"+p, link); err != nil {
			t.Fatal(err)
		}
	}
	return sysfs(dir)
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func fakeMachine(t *testing.T) *machine {
	s := fakeSysfs(t)
	dev := t.TempDir()
	put(t, filepath.Join(dev, "sda"), "")
	return &machine{sys: s, dev: dev, label: s.label, root: func(all []block) (string, error) { return s.verityRoot(all, "252:0") }}
}

func TestDisksOfSysfs(t *testing.T) {
	m := fakeMachine(t)
	got, err := m.disks()
	if err != nil {
		t.Fatal(err)
	}
	want := []storage.Disk{
		{Name: "nvme0n1", Model: "Samsung SSD 970 EVO Plus 500GB", Serial: "S4EVNX0R", SizeBytes: 512110190592, Transport: "nvme", ReadOnly: true},
		{Name: "sda", Model: "Ultra Fit", Serial: "4C530001", SizeBytes: 8 << 30, Transport: "usb", Removable: true, System: true},
	}
	if len(got) != len(want) {
		t.Fatalf("disks %v", got)
	}
	for i := range want {
		if got[i].String() != want[i].String() {
			t.Errorf("disk %v\nwant %v", got[i], &want[i])
		}
	}
}

func TestPartitionsOfSysfs(t *testing.T) {
	got, err := fakeMachine(t).partitions()
	if err != nil || len(got) != 3 {
		t.Fatalf("partitions %v, %v", got, err)
	}
	want := storage.Partition{Name: "sda2", Disk: "sda", Label: "ROOT-A", StartBytes: 65 << 20, SizeBytes: 128 << 20}
	if got[1].String() != want.String() {
		t.Errorf("partition %v, want %v", got[1], &want)
	}
	if got[2].Name != "sda10" {
		t.Errorf("%s comes last", got[2].Name)
	}
}

// A root that is not on verity means that no disk is ours to touch.
func TestRootWithoutVerity(t *testing.T) {
	s := fakeSysfs(t)
	all, err := s.blocks()
	if err != nil {
		t.Fatal(err)
	}
	for dev, want := range map[string]string{"252:0": "sda2", "8:2": "", "0:21": "", "7:0": ""} {
		if got, err := s.verityRoot(all, dev); got != want || err != nil {
			t.Errorf("root on %s: partition %q, %v; want %q", dev, got, err, want)
		}
	}
}

func TestTransport(t *testing.T) {
	for path, want := range map[string]string{
		usbDisk: "usb", nvme: "nvme",
		"devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0/block/sda":                 "sata",
		"devices/pci0000:00/0000:00:02.0/virtio1/block/vda":                                        "virtio",
		"devices/pci0000:00/0000:00:1a.0/mmc_host/mmc0/mmc0:0001/block/mmcblk0":                    "mmc",
		"devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1":                                      "nvme",
		"devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/ata1/host1/target1:0:0/1:0:0:0/block/sd": "usb",
		"devices/platform/soc/fe000000.thing/block/xda":                                            "",
	} {
		if got := transport(path); got != want {
			t.Errorf("%s: transport %q, want %q", path, got, want)
		}
	}
}
