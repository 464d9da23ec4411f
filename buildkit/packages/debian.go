package packages

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// DebianPackage is a package of which the image has files.
type DebianPackage struct {
	Name, Version string
	Source        string // the source package and its version, as in "nftables 1.0.6-2"
	License       string // SPDX expression of what its files in the image are under
	Copyright     string // the file here that says so at length
}

// DebianFile is a file that is taken from the build machine, where buildkit/hostdeps has
// installed its package.
type DebianFile struct {
	File
	DebianPackage
}

// nft is what kube-proxy and the CNI plugins run, and the only program in the image
// with shared libraries: there is no other program that speaks its language.
const nft = "/usr/sbin/nft"

// e2fsck is the statically linked one. storaged runs it on a file system with errors.
const (
	e2fsck = "/sbin/e2fsck.static"
	// E2fsckPath is where it is on the machine: pods see nothing of /lib/dactyl.
	E2fsckPath = "/lib/dactyl/e2fsck"
)

// debianLicenses were read in each package's copyright file, for what is taken. A
// package that is not listed is refused.
var debianLicenses = map[string]string{
	"ca-certificates":   "MPL-2.0",
	"e2fsck-static":     "GPL-2.0-only AND LGPL-2.0-only AND LGPL-2.1-or-later AND BSD-3-Clause AND MIT", // with libraries of its own source and libc
	"linux-source-6.12": "GPL-2.0-only",
	"systemd-boot-efi":  "LGPL-2.1-or-later",

	// Linked into runc.
	"libc6-dev":      "LGPL-2.1-or-later",
	"libseccomp-dev": "LGPL-2.1-only",

	"libbsd0":      "BSD-3-Clause AND BSD-2-Clause AND ISC AND MIT AND Beerware",
	"libc6":        "LGPL-2.1-or-later",
	"libedit2":     "BSD-3-Clause",
	"libgmp10":     "LGPL-3.0-or-later OR GPL-2.0-or-later",
	"libjansson4":  "MIT",
	"libmd0":       "BSD-3-Clause AND BSD-2-Clause AND ISC AND Beerware",
	"libmnl0":      "LGPL-2.1-or-later",
	"libnftables1": "GPL-2.0-only",
	"libnftnl11":   "GPL-2.0-or-later",
	"libtinfo6":    "MIT-open-group AND X11 AND BSD-3-Clause",
	"libxtables12": "GPL-2.0-only",
	"nftables":     "GPL-2.0-only",
}

// Debian lists nft, the libraries that it is linked with, e2fsck, and the CA
// certificates. It checks that each is as its package has it.
func Debian(ctx context.Context) ([]DebianFile, error) {
	libraries, err := librariesOf(ctx, nft)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(e2fsck); err != nil {
		return nil, fmt.Errorf("apt-get install e2fsck-static: %w", err)
	}
	paths := append([]string{nft, e2fsck}, libraries...)
	owners, err := ownersOf(ctx, paths)
	if err != nil {
		return nil, err
	}
	var files []DebianFile
	for _, from := range paths {
		f := DebianFile{File: File{Package: "nft", From: from, Path: from}}
		switch from {
		case nft:
			f.Path = "/lib/pods/bin/nft"
		case e2fsck:
			f.Package, f.Path = "e2fsck", E2fsckPath
		}
		if f.DebianPackage, err = DescribeDebian(ctx, owners[from]); err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
		files = append(files, f)
	}
	if err := verify(ctx, files); err != nil {
		return nil, err
	}
	roots, err := certificates(ctx)
	return append(files, roots), err
}

// inLDD is a library's path in the output of ldd.
var inLDD = regexp.MustCompile(`(?m)(/\S+) \(0x[0-9a-f]+\)$`)

func librariesOf(ctx context.Context, program string) ([]string, error) {
	out, err := output(ctx, "ldd", program)
	if err != nil {
		return nil, fmt.Errorf("libraries of %s; apt-get install nftables: %w", program, err)
	}
	var all []string
	for _, m := range inLDD.FindAllStringSubmatch(out, -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 || strings.Contains(out, "not found") {
		return nil, fmt.Errorf("ldd %s: %s", program, out)
	}
	slices.Sort(all)
	return all, nil
}

// ownersOf finds the package that each file belongs to. In Debian 12 /lib is /usr/lib,
// and dpkg knows a file under one of the two names.
func ownersOf(ctx context.Context, paths []string) (map[string]string, error) {
	args := []string{"-S"}
	for _, path := range paths {
		args = append(args, path, "/usr"+path)
	}
	out, err := output(ctx, "dpkg-query", args...) // it fails because it knows half of them
	owners := map[string]string{}
	for line := range strings.Lines(out) {
		owner, path, _ := strings.Cut(strings.TrimSpace(line), ": ")
		owners[path], owners[strings.TrimPrefix(path, "/usr")] = owner, owner
	}
	for _, path := range paths {
		if owners[path] == "" {
			return nil, fmt.Errorf("%s belongs to no package: %w", path, err)
		}
	}
	return owners, nil
}

// DescribeDebian describes a package that is installed here.
func DescribeDebian(ctx context.Context, name string) (DebianPackage, error) {
	const format = "${Package}\t${Version}\t${source:Package} ${source:Version}"
	out, err := output(ctx, "dpkg-query", "-W", "-f", format, name)
	said := strings.Split(out, "\t")
	if err != nil || len(said) != 3 {
		return DebianPackage{}, fmt.Errorf("what is the package %s: %q: %w", name, out, err)
	}
	license, ok := debianLicenses[said[0]]
	if !ok {
		return DebianPackage{}, fmt.Errorf("its package %s is new in the image: read its licence, then list it in debian.go", said[0])
	}
	return DebianPackage{said[0], said[1], said[2], license, filepath.Join("/usr/share/doc", said[0], "copyright")}, nil
}

// verify compares what is installed with the checksums of its packages.
func verify(ctx context.Context, files []DebianFile) error {
	args := []string{"--verify"}
	for _, f := range files {
		if !slices.Contains(args, f.Name) {
			args = append(args, f.Name)
		}
	}
	out, err := output(ctx, "dpkg", args...) // prints a line for each file that differs
	for _, f := range files {
		if strings.Contains(out+"\n", f.From+"\n") {
			return fmt.Errorf("%s is not as its package %s %s has it", f.From, f.Name, f.Version)
		}
	}
	if out == "" && err != nil {
		return fmt.Errorf("dpkg --verify: %w", err)
	}
	return nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	return strings.TrimSpace(string(out)), err
}
