package image

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/sign"
)

const version = "1.2.3"

// inputs are a small root, and for a kernel what makes a file look like one: nothing
// here boots. That an image boots is for the scenarios that have a real kernel.
func inputs(t *testing.T) Inputs {
	t.Helper()
	dir := t.TempDir()
	spec, err := LoadSpec("../image.toml")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sign.LoadOrCreate(filepath.Join(dir, "keys"), "test")
	if err != nil {
		t.Fatal(err)
	}
	kernel := bytes.Repeat([]byte("kernel! "), 10_000)
	copy(kernel, "MZ")
	copy(kernel[0x202:], "HdrS")
	copy(kernel[0x20e:], "\x00\x10")
	copy(kernel[0x1200:], "6.12.0-test (who@where) #1\x00")
	put(t, filepath.Join(dir, "bzImage"), kernel)
	put(t, filepath.Join(dir, "root/init"), bytes.Repeat([]byte("init"), 500_000))
	put(t, filepath.Join(dir, "root/etc/os-release"), []byte(OSRelease(version)))
	put(t, filepath.Join(dir, "cluster.yaml"), []byte("nodes: []\n"))
	return Inputs{
		Spec: spec, Root: filepath.Join(dir, "root"), Kernel: filepath.Join(dir, "bzImage"),
		CommandLine: []string{"slab_nomerge"}, Version: version, Mode: Test,
		Epoch: time.Unix(1767225600, 0), Keys: keys,
		ESPFiles: map[string]string{"dactyl/cluster.yaml": filepath.Join(dir, "cluster.yaml")},
	}
}

// The image as tools see it that are not ours.
func TestOthersAgree(t *testing.T) {
	in := inputs(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "disk.raw")
	r, err := Make(context.Background(), in, out)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "No problems found", "sgdisk", "-v", out)
	part := carve(t, out, dir, in.Spec)
	// Four files, five directories and the label.
	expect(t, "10 files", "fsck.vfat", "-n", part["ESP"])
	expect(t, "STATE: 11/", "e2fsck", "-fn", part["STATE"])
	expect(t, "EPHEMERAL: 11/", "e2fsck", "-fn", part["EPHEMERAL"])
	expect(t, "squashfs-root/etc/os-release", "unsquashfs", "-l", part["ROOT-A"])
	expect(t, strings.ToUpper(r.PartUUID), "sgdisk", "-i", "2", out)

	cert := filepath.Join(dir, "cert.pem")
	put(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: in.Keys.Certificate.Raw}))
	for _, program := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/Linux/dactyl-" + version + ".efi"} {
		file := filepath.Join(dir, filepath.Base(program))
		expect(t, "", "mcopy", "-i", part["ESP"], "::/"+program, file)
		expect(t, "Signature verification OK", "sbverify", "--cert", cert, file)
	}
	expect(t, "nodes: []", "mtype", "-i", part["ESP"], "::/dactyl/cluster.yaml")

	verify := []string{"verify", part["ROOT-A"], part["ROOT-A"], r.RootHash, fmt.Sprintf("--hash-offset=%d", r.SquashFS)}
	expect(t, "", "veritysetup", verify...)
	flip(t, part["ROOT-A"], r.SquashFS/2)
	if out, err := tool("veritysetup", verify...); err == nil {
		t.Errorf("veritysetup accepts a root with one byte flipped: %s", out)
	}
}

func TestTwiceTheSameBytes(t *testing.T) {
	in := inputs(t)
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1"), filepath.Join(dir, "2")
	for i, out := range []string{first, second} {
		in.Cache = filepath.Join(dir, fmt.Sprint("cache", i))
		if _, err := Make(context.Background(), in, out); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // so that a clock that gets in shows
	}
	if out, err := tool("cmp", first, second); err != nil {
		t.Errorf("two images of the same inputs differ: %s", out)
	}
}

// What a machine needs to know about its root is on the signed command line, and a
// change of one byte in the root changes it.
func TestCommandLine(t *testing.T) {
	in := inputs(t)
	out := filepath.Join(t.TempDir(), "disk.raw")
	before, err := Make(context.Background(), in, out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`dm-mod.create="dactyl-root,,,ro,0 `, before.RootHash, "PARTUUID=" + before.PartUUID,
		" root=/dev/dm-0 ", " init=/init ", " slab_nomerge ", " dactyl.mode=test",
	} {
		if !strings.Contains(before.CommandLine, want) {
			t.Errorf("the command line lacks %q:\n%s", want, before.CommandLine)
		}
	}
	flip(t, filepath.Join(in.Root, "init"), 12345)
	after, err := Make(context.Background(), in, out)
	if err != nil {
		t.Fatal(err)
	}
	if after.RootHash == before.RootHash || after.PartUUID == before.PartUUID {
		t.Error("another root, the same root hash")
	}
}

func TestRefusedInputs(t *testing.T) {
	for name, spoil := range map[string]func(in *Inputs){
		"mode":              func(in *Inputs) { in.Mode = "debug" },
		"version":           func(in *Inputs) { in.Version = "1.0+3" },
		"keys":              func(in *Inputs) { in.Keys = sign.Keys{} },
		"ESP":               func(in *Inputs) { in.ESPFiles = map[string]string{"../x": "/dev/null"} },
		"there is room for": func(in *Inputs) { in.Spec.Root.Slot = 1 << 20; in.Spec.Root.Level = 1; noise(t, in.Root) },
		"at most 1.0":       func(in *Inputs) { in.Mode = Production; in.Spec.Root.Most = 1e6; noise(t, in.Root) },
		"the kernel takes":  func(in *Inputs) { in.CommandLine = []string{strings.Repeat("x", 2000)} },
		"not a bzImage":     func(in *Inputs) { in.Kernel = filepath.Join(in.Root, "init") },
		"no such file":      func(in *Inputs) { in.Root = "/nowhere" },
		"two files":         func(in *Inputs) { in.ESPFiles = map[string]string{"efi/boot/bootx64.efi": "/dev/null"} },
		"cluster.yaml.gone": func(in *Inputs) { in.ESPFiles = map[string]string{"a": "/cluster.yaml.gone"} },
	} {
		in := inputs(t)
		spoil(&in)
		out := filepath.Join(t.TempDir(), "disk.raw")
		_, err := Make(context.Background(), in, out)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not mention %q", err, name)
		}
		if left, _ := filepath.Glob(filepath.Dir(out) + "/.image*"); len(left) > 0 {
			t.Errorf("%s: left %v behind", name, left)
		}
	}
}

func TestSpecRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{"[root]\nslots = \"1MiB\"\n", "[esp]\nsize = \"64 megabytes\"\n", "[esp]\nsize = \"99999999TiB\"\n"} {
		name := filepath.Join(t.TempDir(), "image.toml")
		put(t, name, []byte(text))
		s, err := LoadSpec(name)
		if err == nil {
			t.Errorf("%q was taken as %+v", text, s)
		} else if strings.Contains(text, "slots") && !strings.Contains(err.Error(), "slots") {
			t.Errorf("error %v does not name the unknown key", err)
		}
	}
}

// carve copies the partitions out, by the order and sizes that the spec promises.
func carve(t *testing.T, disk, dir string, s Spec) map[string]string {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part, at := map[string]string{}, int64(1<<20)
	for _, p := range []struct {
		name string
		size Size
	}{{"ESP", s.ESP.Size}, {"ROOT-A", s.Root.Slot}, {"ROOT-B", s.Root.Slot}, {"STATE", s.State.Size}, {"EPHEMERAL", s.Ephemeral.Size}} {
		b := make([]byte, p.size)
		if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		part[p.name] = filepath.Join(dir, p.name)
		put(t, part[p.name], b)
		at += int64(p.size)
	}
	return part
}

func tool(name string, args ...string) (string, error) {
	cmd := exec.Command("/usr/bin/env", append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", name}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func expect(t *testing.T, want, name string, args ...string) {
	t.Helper()
	out, err := tool(name, args...)
	if err != nil || !strings.Contains(out, want) {
		t.Errorf("%s %s: %v; want %q in\n%s", name, strings.Join(args, " "), err, want, out)
	}
}

func put(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	put(t, name, b)
}

// noise makes a root that does not compress.
func noise(t *testing.T, root string) {
	t.Helper()
	b := make([]byte, 2<<20)
	f, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "noise"), b)
}
