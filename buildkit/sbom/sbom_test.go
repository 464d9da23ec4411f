package sbom

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/dactyl-os/dactyl/buildkit/packages"
)

const library = "golang.org/x/sys" // is linked into the program of testdata

// testImage has one Go program and one file of Debian's.
func testImage(t *testing.T) (Image, given) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", program, "./testdata/program").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("words"), 0o644); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	files := []packages.File{{From: program, Path: "/lib/dactyl/program", Links: []string{"/lib/link"}}, {From: text, Path: "/lib/x.so"}}
	if err := packages.Install(root, files); err != nil {
		t.Fatal(err)
	}
	c := packages.DebianPackage{Name: "libx+1", Version: "2:1.0+d-1", Source: "x 1.0", License: "MIT"}
	image := Image{Version: "1.2.3", Mode: "test", Epoch: time.Unix(1767225600, 0), Root: root, Licenses: map[string]string{library: "BSD-3-Clause"}}
	return image, given{
		beside: []packages.DebianPackage{{Name: "linux", Version: "6.12", License: "GPL-2.0-only"}},
		files:  []packages.DebianFile{{File: files[1], DebianPackage: c}},
	}
}

func testDocument(t *testing.T, image Image, g given) []byte {
	t.Helper()
	doc, err := document(image, g)
	if err != nil {
		t.Fatal(err)
	}
	text, err := encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func read(t *testing.T, text []byte) *spdx.Document {
	t.Helper()
	doc, err := json.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	return doc
}

// SPDX's own library reads what is written, and finds in it who is related to whom.
func TestDocument(t *testing.T) {
	image, g := testImage(t)
	doc := read(t, testDocument(t, image, g))
	if doc.CreationInfo.Created != "2026-01-01T00:00:00Z" || doc.DocumentName != "dactyl-1.2.3-test" {
		t.Errorf("%s of %s", doc.DocumentName, doc.CreationInfo.Created)
	}
	described, err := spdxlib.GetDescribedPackageIDs(doc)
	if err != nil || len(described) != 1 || described[0] != "Image" {
		t.Errorf("described: %v, %v", described, err)
	}
	related := map[string]bool{}
	for _, r := range doc.Relationships {
		related[string(r.RefA.ElementRefID)+" "+r.Relationship+" "+string(r.RefB.ElementRefID)] = true
	}
	linked := ""
	for _, p := range doc.Packages {
		if p.PackageName == library {
			linked = string(p.PackageSPDXIdentifier)
			if p.PackageLicenseConcluded != "BSD-3-Clause" || !strings.HasPrefix(p.PackageExternalReferences[0].Locator, "pkg:golang/"+library+"@v") {
				t.Errorf("%+v %+v", p, p.PackageExternalReferences[0])
			}
		}
		if p.PackageName == "libx+1" && p.PackageExternalReferences[0].Locator != "pkg:deb/debian/libx+1@2%3A1.0%2Bd-1?distro=debian-12" {
			t.Errorf("purl %s", p.PackageExternalReferences[0].Locator)
		}
		if strings.HasPrefix(p.PackageName, ours) {
			t.Errorf("%s is the image, not a part that others wrote", p.PackageName)
		}
	}
	for _, want := range []string{
		"Image CONTAINS File-lib-dactyl-program",
		"Image CONTAINS File-lib-x.so",
		"Image DEPENDS_ON Debian-linux-6.12",
		"File-lib-dactyl-program STATIC_LINK " + linked,
		"Debian-libx-1-2-1.0-d-1 CONTAINS File-lib-x.so",
	} {
		if !related[want] {
			t.Errorf("not there: %s", want)
		}
	}
	if len(doc.Files) != 2 {
		t.Errorf("%d files; a link is none", len(doc.Files))
	}
}

// The library forgives what the specification does not.
func TestSpecification(t *testing.T) {
	image, g := testImage(t)
	doc := read(t, testDocument(t, image, g))
	form := regexp.MustCompile(`^[A-Za-z0-9.-]+$`)
	seen := map[spdx.ElementID]bool{}
	check := func(id spdx.ElementID) {
		if !form.MatchString(string(id)) || seen[id] {
			t.Errorf("identifier %q", id)
		}
		seen[id] = true
	}
	for _, p := range doc.Packages {
		check(p.PackageSPDXIdentifier)
		if p.PackageName == "" || p.PackageDownloadLocation == "" || p.FilesAnalyzed != (p.PackageVerificationCode != nil) {
			t.Errorf("%+v", p)
		}
	}
	for _, f := range doc.Files {
		check(f.FileSPDXIdentifier)
		if len(f.Checksums) != 2 || f.Checksums[0].Algorithm != spdx.SHA1 || f.FileCopyrightText == "" {
			t.Errorf("%+v", f)
		}
	}
}

// The same image, wherever it lies, has the same document; another one has another name.
func TestDeterministic(t *testing.T) {
	image, g := testImage(t)
	first := testDocument(t, image, g)
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.CopyFS(moved, os.DirFS(image.Root)); err != nil {
		t.Fatal(err)
	}
	image.Root = moved
	if !bytes.Equal(first, testDocument(t, image, g)) {
		t.Error("the same image has two documents")
	}
	if err := os.WriteFile(filepath.Join(moved, "more"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	a, b := read(t, first).DocumentNamespace, read(t, testDocument(t, image, g)).DocumentNamespace
	if a == b || !strings.HasPrefix(a, "https://dactyl.invalid/spdx/dactyl-1.2.3-test-") {
		t.Errorf("names %s and %s", a, b)
	}
}

func TestTwoFilesOneIdentifier(t *testing.T) {
	image, g := testImage(t)
	for _, name := range []string{"a b", "a_b"} {
		if err := os.WriteFile(filepath.Join(image.Root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := document(image, g); err == nil {
		t.Error("two files share an identifier")
	}
}

// What Debian gave is found on this machine.
func TestWrite(t *testing.T) {
	image, _ := testImage(t)
	path := filepath.Join(t.TempDir(), "spdx.json")
	if err := Write(t.Context(), path, image); err == nil {
		t.Error("nft is not in the image, and that is no error")
	}
	debian, err := packages.Debian(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range debian {
		if err := packages.Install(image.Root, []packages.File{f.File}); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(t.Context(), path, image); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	read(t, text)
}
