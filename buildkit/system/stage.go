// Package system stages the root directory of an image: the programs, what is
// compiled from all daemon.toml and .proto files, and rootfs/ as it stands.
package system

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/disk"
	"github.com/dactyl-os/dactyl/buildkit/image"
	"github.com/dactyl-os/dactyl/buildkit/kernel"
	"github.com/dactyl-os/dactyl/buildkit/licenses"
	"github.com/dactyl-os/dactyl/buildkit/manifest"
	"github.com/dactyl-os/dactyl/daemons/abi"
)

// Epoch is the time of every file in an image and the earliest time a
// machine believes: 2026-01-01. A release moves it.
var Epoch = time.Unix(1767225600, 0)

// directories are empty in the image: something is mounted on each.
var directories = []string{"boot", "dev", "proc", "run", "state", "sys", "tmp", "var"}

// Stage makes the directory root, which it empties first, the root of an image
// of the given mode. It is to be called in the repository's root directory. Two
// calls for one directory wait for each other.
func Stage(ctx context.Context, mode, version, root string, log io.Writer) (*manifest.Build, error) {
	unlock, err := lock(ctx, root+".lock", log)
	if err != nil {
		return nil, err
	}
	defer unlock()
	b, _, err := stage(ctx, mode, version, root, log)
	return b, err
}

// stage returns too what others own of the image.
func stage(ctx context.Context, mode, version, root string, log io.Writer) (*manifest.Build, []licenses.Component, error) {
	b, err := manifest.Read(ctx, ".", mode)
	if err != nil {
		return nil, nil, err
	}
	if err := os.RemoveAll(root); err != nil {
		return nil, nil, err
	}
	for _, d := range directories {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return nil, nil, err
		}
	}
	if err := os.CopyFS(root, os.DirFS("rootfs")); err != nil {
		return nil, nil, fmt.Errorf("copy rootfs: %w", err)
	}
	if err := compile(ctx, b, version, root, log); err != nil {
		return nil, nil, err
	}
	files, err := installPackages(ctx, b, root, log)
	if err != nil {
		return nil, nil, err
	}
	linked, err := licenses.Read(ctx, ".", b, manifest.Tags(b.Mode))
	if err != nil {
		return nil, nil, err
	}
	if err := writeFiles(ctx, b, linked, version, root); err != nil {
		return nil, nil, err
	}
	if err := checkInterpreters(root, programPaths(b, files)); err != nil {
		return nil, nil, fmt.Errorf("the root of the %s image:\n%w", mode, err)
	}
	return b, linked, nil
}

// writeFiles writes what is made rather than compiled or copied.
func writeFiles(ctx context.Context, b *manifest.Build, linked []licenses.Component, version, root string) error {
	system, err := manifest.JSON(b.System(version, Epoch.Unix()))
	if err != nil {
		return err
	}
	routes, err := manifest.JSON(b.Routes())
	if err != nil {
		return err
	}
	descriptors, err := manifest.Descriptors(b.Served())
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{
		abi.SystemPath:      system,
		abi.RoutesPath:      routes,
		abi.DescriptorsPath: descriptors,
		abi.SysctlsPath:     []byte(kernel.RenderSysctls()),
		"/etc/os-release":   []byte(image.OSRelease(version)),
		"/etc/protocols":    []byte(protocols),
		licenses.Path:       licenses.Texts(linked),
	} {
		to := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			return err
		}
	}
	return emptyVolume(ctx, filepath.Join(root, EphemeralTemplate))
}

// protocols is protocols(5), of what runs over IP here. Without it nft prints numbers
// where kube-proxy has written tcp, and kube-proxy then removes the elements of its maps
// as somebody else's: an hour after its start no Service would answer.
const protocols = `icmp 1 ICMP
igmp 2 IGMP
tcp 6 TCP
udp 17 UDP
dccp 33 DCCP
gre 47 GRE
esp 50 ESP
ah 51 AH
ipv6-icmp 58 IPv6-ICMP
sctp 132 SCTP
udplite 136 UDPLite
`

// EphemeralTemplate is the empty filesystem that storaged writes over an
// EPHEMERAL that cannot be mounted any more: the image has no mkfs.
const EphemeralTemplate = "/lib/dactyl/ephemeral.ext4"

// emptyVolume writes the filesystem that the image's own EPHEMERAL begins as.
func emptyVolume(ctx context.Context, path string) error {
	spec, err := image.LoadSpec("buildkit/image.toml")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "dactyl-ext4-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "ext4")
	v := spec.Ephemeral
	fs := disk.Ext4{Label: "EPHEMERAL", UUID: disk.NewGUID("ext4", "EPHEMERAL"), Size: int64(v.Size), Journal: int64(v.Journal), GrowTo: int64(v.GrowTo)}
	if err := disk.MakeExt4(ctx, made, fs, Epoch); err != nil {
		return err
	}
	return exec.CommandContext(ctx, "cp", "--sparse=always", made, path).Run()
}
