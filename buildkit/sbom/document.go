package sbom

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
	"github.com/spdx/tools-golang/utils"

	"github.com/dactyl-os/dactyl/buildkit/packages"
)

// ours is what modules of this repository are called: they are the image, not parts
// that others wrote.
const ours = "github.com/dactyl-os/dactyl"

// The kinds of relationship between two elements that are used here.
const (
	describes  = "DESCRIBES"
	contains   = "CONTAINS"
	dependsOn  = "DEPENDS_ON"
	staticLink = "STATIC_LINK"
)

const unknown = "NOASSERTION"

// maker puts a document together.
type maker struct {
	Image
	doc  *spdx.Document
	seen map[spdx.ElementID]bool
}

func document(image Image, g given) (*spdx.Document, error) {
	m := maker{image, &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: fmt.Sprintf("dactyl-%s-%s", image.Version, image.Mode),
		CreationInfo: &spdx.CreationInfo{
			Creators: []spdx.Creator{{CreatorType: "Tool", Creator: "dactyl-buildkit-" + image.Version}},
			Created:  image.Epoch.UTC().Format(time.RFC3339),
		},
	}, map[spdx.ElementID]bool{}}
	if err := m.image(); err != nil {
		return nil, err
	}
	for _, p := range g.beside {
		m.relate("Image", dependsOn, m.debian(p))
	}
	for _, f := range g.files {
		m.relate(m.debian(f.DebianPackage), contains, fileID(f.Path))
	}
	for _, f := range m.doc.Files {
		if err := m.program(f, g.linked); err != nil {
			return nil, err
		}
	}
	m.sort()
	return m.doc, m.check()
}

// image describes the whole, with every file in it.
func (m *maker) image() error {
	err := filepath.WalkDir(m.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(m.Root, path)
		if err != nil {
			return err
		}
		sums, err := checksums(path)
		if err != nil {
			return err
		}
		m.doc.Files = append(m.doc.Files, &spdx.File{
			FileName: "/" + name, FileSPDXIdentifier: fileID("/" + name), Checksums: sums,
			LicenseConcluded: unknown, LicenseInfoInFiles: []string{unknown}, FileCopyrightText: unknown,
		})
		return nil
	})
	if err != nil {
		return err
	}
	code, err := utils.GetVerificationCode(m.doc.Files, "")
	if err != nil {
		return err
	}
	m.doc.Packages = append(m.doc.Packages, &spdx.Package{
		PackageName: "dactyl", PackageSPDXIdentifier: "Image", PackageVersion: m.Version,
		PackageDownloadLocation: unknown, FilesAnalyzed: true, IsFilesAnalyzedTagPresent: true,
		PackageVerificationCode:     &code,
		PackageLicenseInfoFromFiles: []string{unknown},
		PackageLicenseDeclared:      "Apache-2.0", PackageLicenseConcluded: unknown, PackageCopyrightText: unknown,
		PackageComment:        "the root filesystem of the " + m.Mode + " image",
		PrimaryPackagePurpose: "OPERATING-SYSTEM",
	})
	m.relate("DOCUMENT", describes, "Image")
	for _, f := range m.doc.Files {
		m.relate("Image", contains, f.FileSPDXIdentifier)
	}
	return nil
}

// checksums are those that SPDX asks for and those that mean something.
func checksums(path string) ([]spdx.Checksum, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	old, good := sha1.New(), sha256.New()
	if _, err := io.Copy(io.MultiWriter(old, good), f); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return []spdx.Checksum{
		{Algorithm: spdx.SHA1, Value: fmt.Sprintf("%x", old.Sum(nil))},
		{Algorithm: spdx.SHA256, Value: fmt.Sprintf("%x", good.Sum(nil))},
	}, nil
}

// program says what is linked into a file, if it is a Go program.
func (m *maker) program(f *spdx.File, c []packages.DebianPackage) error {
	info, err := buildinfo.ReadFile(filepath.Join(m.Root, f.FileName))
	if err != nil {
		return nil // not one
	}
	f.FileTypes = []string{"BINARY"}
	m.relate(f.FileSPDXIdentifier, staticLink, m.goModule("stdlib", strings.TrimPrefix(info.GoVersion, "go"), ""))
	for _, module := range append(info.Deps, &info.Main) {
		if module.Path == ours || strings.HasPrefix(module.Path, ours+"/") {
			continue
		}
		m.relate(f.FileSPDXIdentifier, staticLink, m.module(module))
	}
	if cgo(info) {
		for _, p := range c {
			m.relate(f.FileSPDXIdentifier, staticLink, m.debian(p))
		}
	}
	return nil
}

func cgo(info *debug.BuildInfo) bool {
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"})
}

// module is a Go module as a program names it. Where it was replaced by another, that
// is what is linked.
func (m *maker) module(module *debug.Module) spdx.ElementID {
	if r := module.Replace; r != nil {
		module = r
	}
	comment := ""
	if packages.Edited(module.Path) {
		comment = "edited: see docs/upstream.md"
	}
	return m.goModule(module.Path, module.Version, comment)
}

func (m *maker) goModule(path, version, comment string) spdx.ElementID {
	license := cmp.Or(m.Licenses[path], unknown)
	if path == "stdlib" {
		license = "BSD-3-Clause"
	}
	return m.add(&spdx.Package{
		PackageName: path, PackageVersion: version,
		PackageSPDXIdentifier:     id("Go", path, version),
		PackageLicenseConcluded:   license,
		PackageComment:            comment,
		PackageExternalReferences: purl("pkg:golang/" + escape(path) + "@" + url.QueryEscape(version)),
		PrimaryPackagePurpose:     "LIBRARY",
	})
}

func (m *maker) debian(p packages.DebianPackage) spdx.ElementID {
	return m.add(&spdx.Package{
		PackageName: p.Name, PackageVersion: p.Version,
		PackageSPDXIdentifier:     id("Debian", p.Name, p.Version),
		PackageLicenseConcluded:   p.License,
		PackageSourceInfo:         "built by Debian from its source package " + p.Source,
		PackageExternalReferences: purl("pkg:deb/debian/" + p.Name + "@" + url.QueryEscape(p.Version) + "?distro=debian-12"),
	})
}

// add puts a package into the document unless it is there.
func (m *maker) add(p *spdx.Package) spdx.ElementID {
	if !m.seen[p.PackageSPDXIdentifier] {
		m.seen[p.PackageSPDXIdentifier] = true
		p.IsFilesAnalyzedTagPresent = true
		p.PackageDownloadLocation, p.PackageLicenseDeclared, p.PackageCopyrightText = unknown, unknown, unknown
		m.doc.Packages = append(m.doc.Packages, p)
	}
	return p.PackageSPDXIdentifier
}

func (m *maker) relate(a spdx.ElementID, how string, b spdx.ElementID) {
	m.doc.Relationships = append(m.doc.Relationships, &spdx.Relationship{
		RefA: spdx.DocElementID{ElementRefID: a}, Relationship: how, RefB: spdx.DocElementID{ElementRefID: b},
	})
}

func (m *maker) sort() {
	slices.SortFunc(m.doc.Packages, func(a, b *spdx.Package) int {
		return cmp.Compare(a.PackageSPDXIdentifier, b.PackageSPDXIdentifier)
	})
	key := func(r *spdx.Relationship) string {
		return fmt.Sprint(r.RefA.ElementRefID, " ", r.Relationship, " ", r.RefB.ElementRefID)
	}
	slices.SortFunc(m.doc.Relationships, func(a, b *spdx.Relationship) int { return cmp.Compare(key(a), key(b)) })
}

// check refuses two files under one identifier, since SPDX allows few of the characters
// that names have, and a Debian package's file that is not in the image.
func (m *maker) check() error {
	names := map[spdx.ElementID]string{}
	for _, f := range m.doc.Files {
		if other, ok := names[f.FileSPDXIdentifier]; ok {
			return fmt.Errorf("%s and %s have the same identifier", other, f.FileName)
		}
		names[f.FileSPDXIdentifier] = f.FileName
	}
	return spdxlib.ValidateDocument(m.doc)
}

// notInID are characters that identifiers may not have.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func id(parts ...string) spdx.ElementID {
	return spdx.ElementID(notInID.ReplaceAllString(strings.Join(parts, "-"), "-"))
}

func fileID(path string) spdx.ElementID { return id("File" + path) }

// purl is a package URL: https://github.com/package-url/purl-spec.
func purl(locator string) []*spdx.PackageExternalReference {
	return []*spdx.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: locator}}
}

// escape writes a module's path as a purl wants it: the parts apart, in small letters.
func escape(path string) string {
	parts := strings.Split(strings.ToLower(path), "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
