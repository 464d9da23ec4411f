package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/storaged/internal/ext4"
	"golang.org/x/sys/unix"
)

// testDisk is a loop device with a freshly flashed image on a larger disk: real
// tables, real filesystems, the real kernel.
type testDisk struct {
	t    *testing.T
	dir  string
	file string
	name string // loop0
}

func newTestDisk(t *testing.T) *testDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop devices and mounts need root")
	}
	d := &testDisk{t: t, dir: t.TempDir()}
	d.file = filepath.Join(d.dir, "disk")
	truncate(t, d.file, imageMiB)
	var args []string
	for i, p := range layout {
		args = append(args, "-n", fmt.Sprintf("%d:0:+%dM", i+1, p.size), "-c", fmt.Sprintf("%d:%s", i+1, p.label))
	}
	d.tool("sgdisk", append(args, d.file)...)
	d.put("ESP", 1, "mkfs.vfat", "-F", "32")
	d.put("STATE", 321, mkfs("STATE")...)
	d.put("EPHEMERAL", 385, mkfs("EPHEMERAL")...)
	truncate(t, d.file, 2<<10)
	d.attach()
	return d
}

// mkfs is as the image's builder makes its filesystems.
func mkfs(label string) []string {
	return []string{"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-N", "8192", "-J", "size=8", "-L", label,
		"-U", "7b4c9c4e-3e43-8f4e-9d0a-5f1f0a3c2b1d", "-O", "metadata_csum,metadata_csum_seed,64bit,resize_inode",
		"-E", "resize=268435456,nodiscard"}
}

func truncate(t *testing.T, name string, size int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Truncate(size << 20)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (d *testDisk) tool(name string, args ...string) string {
	d.t.Helper()
	cmd := exec.Command("/usr/bin/env", append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", name}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "No such file") && cmd.ProcessState.ExitCode() == 127 {
		d.t.Skipf("%s is not installed", name)
	}
	if err != nil {
		d.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// put makes a filesystem and writes it to the disk at so many MiB. It is also what
// EPHEMERAL's template is.
func (d *testDisk) put(label string, at int64, command ...string) {
	d.t.Helper()
	name := filepath.Join(d.dir, label)
	for _, p := range layout {
		if p.label == label {
			truncate(d.t, name, int64(p.size))
		}
	}
	d.tool(command[0], append(command[1:], name)...)
	d.tool("dd", "if="+name, "of="+d.file, "bs=1M", "conv=notrunc,sparse", fmt.Sprint("seek=", at))
}

func (d *testDisk) attach() {
	d.t.Helper()
	out, err := exec.Command("/usr/sbin/losetup", "-f", "--show", d.file).CombinedOutput()
	if err != nil {
		d.t.Skipf("no loop device: losetup: %v: %s", err, out)
	}
	d.name = filepath.Base(strings.TrimSpace(string(out)))
	d.t.Cleanup(func() { d.tool("losetup", "-d", "/dev/"+d.name) })
	// The build host's kernel may not know GPTs; then it gets no labels from them either.
	first := uint64(mib)
	for i, p := range layout {
		d.tool("addpart", "/dev/"+d.name, fmt.Sprint(i+1), fmt.Sprint(first), fmt.Sprint(p.size*mib))
		d.t.Cleanup(func() { d.tool("delpart", "/dev/"+d.name, fmt.Sprint(i+1)) })
		first += p.size * mib
	}
}

// machine is storaged's view of it, with nodes in a /dev of its own as PID 1 makes
// them. Its mounts end with the test.
func (d *testDisk) machine() *machine {
	d.t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(d.dir, &st); err != nil {
		d.t.Fatal(err)
	}
	m := &machine{
		sys: "/sys", dev: filepath.Join(d.dir, "dev"), prefix: d.dir,
		template: filepath.Join(d.dir, "EPHEMERAL"), rootDev: st.Dev,
		check: newChecker(d.t.Context(), "/sbin/e2fsck.static", slog.New(slog.DiscardHandler)),
		root:  func([]block) (string, error) { return d.name + "p2", nil },
		label: func(b block) string { return layout[b.number-1].label },
	}
	all, err := m.sys.blocks()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, dir := range []string{"dev", "boot", "state", "var"} {
		os.MkdirAll(filepath.Join(d.dir, dir), 0o755)
	}
	for _, b := range all {
		if b.owner() != d.name {
			continue
		}
		var major, minor uint32
		fmt.Sscanf(b.dev, "%d:%d", &major, &minor)
		if err := unix.Mknod(m.node(b.name), unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil && err != unix.EEXIST {
			d.t.Fatal(err)
		}
	}
	return m
}

// settle runs storaged until the end, and returns what it wrote to the log.
func (d *testDisk) settle(m *machine) string {
	d.t.Helper()
	var b strings.Builder
	log := slog.New(teller{&b})
	o, err := settle(d.t.Context(), m, newEngine(), log)
	if err != nil {
		d.t.Fatalf("%v, after\n%s", err, b.String())
	}
	growAll(context.Background(), m, growths(o), log)
	return strings.NewReplacer(d.name+"p", "sda", d.name, "sda").Replace(b.String())
}

func (d *testDisk) unmount() {
	for _, dir := range []string{"boot", "state", "var"} {
		if err := unix.Unmount(filepath.Join(d.dir, dir), 0); err != nil && err != unix.EINVAL {
			d.t.Error(err)
		}
	}
}

// hostLacks are what a log says on a host that cannot do all that a machine can: the
// filesystem vfat, and CAP_SYS_RESOURCE, without which nothing grows.
var hostLacks = regexp.MustCompile(`(?m)^.*(/boot.*open vfat: no such device|grow ephemeral -> .*operation not permitted)\n`)

// mayGrow says whether the host can.
var mayGrow = func() bool {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), "CapEff:")
	hex, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	set, err := strconv.ParseUint(hex, 16, 64)
	return err == nil && set>>unix.CAP_SYS_RESOURCE&1 == 1
}()

// want checks a log against its lines; what is about /boot or growing only where the
// host can do it.
func want(t *testing.T, log string, lines ...string) {
	t.Helper()
	log = hostLacks.ReplaceAllString(log, "")
	log = regexp.MustCompile(`(?m)^.*mount sda1 on /boot\n`).ReplaceAllString(log, "")
	if !mayGrow {
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "grown") })
	}
	got := slices.DeleteFunc(strings.Split(log, "\n"), func(l string) bool { return l == "" })
	if !slices.EqualFunc(got, lines, strings.Contains) {
		t.Fatalf("log\n%s\nwant lines with\n%s", log, strings.Join(lines, "\n"))
	}
}

// The first boot of a flashed disk, the second, and one with EPHEMERAL destroyed,
// each judged by sgdisk and e2fsck. If this fails, machines do not come up.
func TestRealDisk(t *testing.T) {
	d := newTestDisk(t)
	m := d.machine()
	t.Cleanup(d.unmount)

	log := d.settle(m)
	want(t, log, "write backup table of sda", "write primary table of sda", "cover disk in MBR sda", "grow partition sda5",
		"mount sda4 on /state", "renew UUID of state", "mount sda5 on /var", "renew UUID of ephemeral", "grown ephemeral to 1662 MiB")
	log = d.settle(m)
	want(t, log)
	u, err := m.usage(ephemeral, d.name+"p5")
	if err != nil || u.size < 1500<<20 && mayGrow || u.readOnly || u.errors != 0 {
		t.Errorf("/var is used as %+v, %v", u, err)
	}
	mark := filepath.Join(d.dir, "var/mark")
	if err := os.WriteFile(mark, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.unmount()
	d.judge(m, "GROWN")

	log = d.settle(m)
	want(t, log, "mount sda4", "mount sda5")
	if _, err := os.Stat(mark); err != nil {
		t.Error(err)
	}
	d.unmount()
	if m.check.until != nil {
		t.Error("e2fsck was started on a disk without errors")
	}

	d.breakBitmap(m)
	log = d.settle(m)
	want(t, log, "mount sda4", "repair sda5", "mount sda5", "/var: note: repaired: ")
	if text, err := os.ReadFile(mark); string(text) != "x" || d.write("after") != nil {
		t.Errorf("after the repair the file is %q, %v; another: %v", text, err, d.write("after"))
	}
	d.unmount()
	d.judge(m, "REPAIRED")
	log = d.settle(m)
	want(t, log, "mount sda4", "mount sda5")
	d.unmount()

	d.destroy(m.node(d.name + "p5"))
	log = d.settle(m)
	want(t, log, "mount sda4", "mount sda5 on /var -> ", "repair sda5 -> ", "remake sda5", "mount sda5 on /var", "renew UUID", "/var: note: recreated: ", "grown ephemeral")
	if _, err := os.Stat(mark); err == nil {
		t.Error("a file survived that EPHEMERAL was recreated")
	}
	d.unmount()
	d.judge(m, "MADE ANEW")
}

// judge asks the tools that are not ours.
func (d *testDisk) judge(m *machine, when string) {
	d.t.Helper()
	if out := d.tool("sgdisk", "-v", m.node(d.name)); !strings.Contains(out, "No problems found") {
		d.t.Errorf("%s: sgdisk: %s", when, out)
	}
	for _, p := range []string{"p4", "p5"} {
		d.tool("e2fsck", "-fn", m.node(d.name+p))
		f, err := os.Open(m.node(d.name + p))
		if err != nil {
			d.t.Fatal(err)
		}
		super, err := ext4.ReadSuperblock(f)
		f.Close()
		if err != nil || super.MadeByBuilder() {
			d.t.Errorf("%s: %s has superblock %+v, %v", when, p, super, err)
		}
	}
}

// breakBitmap makes the checksum of each block bitmap wrong and has the kernel find that:
// it sets the error flag and takes no more files. (That /var is read-only then, statfs says
// only before Linux 6.15.)
func (d *testDisk) breakBitmap(m *machine) {
	d.t.Helper()
	node := m.node(d.name + "p5")
	var requests strings.Builder
	for group := range strings.Count(d.tool("dumpe2fs", node), "\nGroup ") {
		fmt.Fprintf(&requests, "set_bg %d block_bitmap_csum 0x1234\nset_bg %d checksum calc\n", group, group)
	}
	file := filepath.Join(d.dir, "requests")
	if err := os.WriteFile(file, []byte(requests.String()), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.tool("debugfs", "-w", "-f", file, node)
	want(d.t, d.settle(m), "mount sda4", "mount sda5")
	if err := d.write("victim"); err == nil {
		d.t.Error("the kernel has not found the wrong checksum")
	}
	if u, err := m.usage(ephemeral, d.name+"p5"); err != nil || u.errors == 0 {
		d.t.Errorf("/var is used as %+v, %v: no errors", u, err)
	}
	d.unmount()
}

// write makes a file in /var that reaches the disk.
func (d *testDisk) write(name string) error {
	f, err := os.Create(filepath.Join(d.dir, "var", name))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content()); err != nil {
		return err
	}
	return f.Sync()
}

// destroy overwrites what neither the journal nor e2fsck brings back: the first MiB of each
// block group, where all copies of the superblock are.
func (d *testDisk) destroy(node string) {
	d.t.Helper()
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		d.t.Fatal(err)
	}
	for at := int64(0); at < size; at += 128 << 20 {
		garbage := []byte(strings.Repeat("garbage!", 1<<17))
		if _, err := f.WriteAt(garbage[:min(int64(len(garbage)), size-at)], at); err != nil {
			d.t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil && err != io.EOF {
		d.t.Fatal(err)
	}
}
