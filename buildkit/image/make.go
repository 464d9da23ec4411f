package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dactyl-os/dactyl/buildkit/disk"
	"github.com/dactyl-os/dactyl/buildkit/sign"
	"github.com/dactyl-os/dactyl/buildkit/squashfs"
	"github.com/dactyl-os/dactyl/buildkit/uki"
	"github.com/dactyl-os/dactyl/buildkit/verity"
)

// Result says what was made. Sizes are in bytes.
type Result struct {
	SquashFS    int64  `json:"squashfs"`
	Verity      int64  `json:"verity"` // superblock and hash tree
	Kernel      int64  `json:"kernel"`
	UKI         int64  `json:"uki"` // with its signature
	Disk        int64  `json:"disk"`
	Compressed  int64  `json:"compressed"` // bytes that the cache did not have
	RootHash    string `json:"root_hash"`  // hexadecimal
	PartUUID    string `json:"partuuid"`   // of ROOT-A
	CommandLine string `json:"command_line"`
}

// loaderConf leaves nothing to choose at the console: no menu, no editor for the
// command line (which the stub would refuse under Secure Boot anyway), no firmware
// setup entry.
const loaderConf = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\nconsole-mode keep\n"

// build is one run of Make: its inputs, a directory for what lies between, and what
// is known so far.
type build struct {
	Inputs
	dir    string
	tree   verity.Tree
	result Result
}

// Make writes the disk image to the file out, which is replaced only when the image
// is whole. Errors name the step and the file at fault.
func Make(ctx context.Context, in Inputs, out string) (Result, error) {
	if err := in.check(); err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return Result{}, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".image-*")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(dir)
	b := &build{Inputs: in, dir: dir}
	for _, step := range []func(context.Context) error{b.makeRoot, b.makeUKI, b.signLoader, b.makeESP, b.makeVolumes, b.makeDisk} {
		if err := step(ctx); err != nil {
			return Result{}, err
		}
	}
	return b.result, os.Rename(b.path("disk"), out)
}

func (b *build) path(name string) string { return filepath.Join(b.dir, name) }

func (b *build) makeRoot(ctx context.Context) error {
	stats, err := squashfs.Write(ctx, b.Root, b.path("root"), squashfs.Options{
		BlockSize: int(b.Spec.Root.Block), Level: b.Spec.Root.Level, Time: b.Epoch, Cache: b.Cache,
	})
	if err != nil {
		return err
	}
	if most := int64(b.Spec.Root.Most); b.Mode == Production && stats.Bytes > most {
		return fmt.Errorf("image: the root is %.1f MB as a SquashFS: Dactyl promises at most %.1f (most in image.toml); see what grew with go run ./buildkit/cmd/packages and in %s",
			float64(stats.Bytes)/1e6, float64(most)/1e6, b.Root)
	}
	if b.tree, err = verity.Append(b.path("root")); err != nil {
		return err
	}
	b.result.SquashFS, b.result.Verity = stats.Bytes, b.tree.Size-stats.Bytes
	b.result.Compressed = stats.Compressed
	b.result.RootHash, b.result.PartUUID = fmt.Sprintf("%x", b.tree.RootHash), b.tree.PartUUID()
	return nil
}

// commandLine starts with what opens the root. dm-mod.waitfor makes the kernel wait
// for the partition: a USB disk appears seconds after it looks first.
func (b *build) commandLine() string {
	root := "PARTUUID=" + b.tree.PartUUID()
	words := []string{
		fmt.Sprintf(`dm-mod.create="dactyl-root,,,ro,%s"`, b.tree.Table(root)),
		fmt.Sprintf(`dm-mod.waitfor="%s"`, root),
		"root=/dev/dm-0",
	}
	words = append(words, b.Spec.Boot.CommandLine...)
	words = append(words, b.CommandLine...)
	return strings.Join(append(words, "dactyl.mode="+string(b.Mode)), " ")
}

func (b *build) makeUKI(context.Context) error {
	kernel, err := os.ReadFile(b.Kernel)
	if err != nil {
		return err
	}
	stub, err := os.ReadFile(b.StubEFI)
	if err != nil {
		return err
	}
	release := b.KernelRelease
	if release == "" {
		if release, err = uki.Release(kernel); err != nil {
			return fmt.Errorf("%s: %w", b.Kernel, err)
		}
	}
	b.result.CommandLine = b.commandLine()
	image, err := uki.Make(uki.Parts{
		Stub: stub, Kernel: kernel, KernelRelease: release,
		CommandLine: b.result.CommandLine, OSRelease: OSRelease(b.Version),
	})
	if err != nil {
		return err
	}
	b.result.Kernel = int64(len(kernel))
	b.result.UKI, err = b.sign(image, "uki")
	return err
}

func (b *build) signLoader(context.Context) error {
	loader, err := os.ReadFile(b.BootLoaderEFI)
	if err != nil {
		return err
	}
	_, err = b.sign(loader, "loader")
	return err
}

// sign writes the signed program to the file name and returns its size.
func (b *build) sign(program []byte, name string) (int64, error) {
	signed, err := sign.EFI(program, b.Keys)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return int64(len(signed)), os.WriteFile(b.path(name), signed, 0o644)
}

func (b *build) makeESP(ctx context.Context) error {
	if err := os.WriteFile(b.path("loader.conf"), []byte(loaderConf), 0o644); err != nil {
		return err
	}
	files := []disk.File{
		{Name: "EFI/BOOT/BOOTX64.EFI", Source: b.path("loader")},
		{Name: "EFI/Linux/dactyl-" + b.Version + ".efi", Source: b.path("uki")},
		{Name: "loader/loader.conf", Source: b.path("loader.conf")},
	}
	for name, source := range b.ESPFiles {
		files = append(files, disk.File{Name: name, Source: source})
	}
	return disk.MakeESP(ctx, b.path("esp"), int64(b.Spec.ESP.Size), files, b.Epoch)
}

func (b *build) makeVolumes(ctx context.Context) error {
	for label, v := range map[string]Volume{"STATE": b.Spec.State, "EPHEMERAL": b.Spec.Ephemeral} {
		fs := disk.Ext4{
			Label: label, UUID: disk.NewGUID("ext4", label),
			Size: int64(v.Size), Journal: int64(v.Journal), GrowTo: int64(v.GrowTo),
		}
		if err := disk.MakeExt4(ctx, b.path(label), fs, b.Epoch); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) makeDisk(context.Context) error {
	hash := b.result.RootHash
	part := func(name string, kind disk.GUID, size Size, content string) disk.Partition {
		return disk.Partition{Name: name, Type: kind, UUID: disk.NewGUID(name, hash), Size: int64(size), Content: content}
	}
	parts := []disk.Partition{
		part("ESP", disk.TypeESP, b.Spec.ESP.Size, b.path("esp")),
		part("ROOT-A", disk.TypeRoot, b.Spec.Root.Slot, b.path("root")),
		part("ROOT-B", disk.TypeRoot, b.Spec.Root.Slot, ""),
		part("STATE", disk.TypeData, b.Spec.State.Size, b.path("STATE")),
		part("EPHEMERAL", disk.TypeVar, b.Spec.Ephemeral.Size, b.path("EPHEMERAL")),
	}
	parts[1].UUID = disk.GUID(b.result.PartUUID)
	var err error
	b.result.Disk, err = disk.Write(b.path("disk"), disk.NewGUID("disk", hash, b.Version), parts)
	return err
}
