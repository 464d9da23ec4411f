package sbom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"

	"github.com/dactyl-os/dactyl/buildkit/packages"
)

// Image is what the document is about.
type Image struct {
	Version  string
	Mode     string
	Epoch    time.Time
	Root     string            // the staged root filesystem
	Licenses map[string]string // module → SPDX expression
}

// Write writes the document of an image to path.
func Write(ctx context.Context, path string, image Image) error {
	given, err := findGiven(ctx)
	if err != nil {
		return err
	}
	doc, err := document(image, given)
	if err != nil {
		return fmt.Errorf("bill of materials of %s: %w", image.Root, err)
	}
	text, err := encode(doc)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// given is what the image has from Debian.
type given struct {
	beside []packages.DebianPackage // on the ESP
	linked []packages.DebianPackage // into programs with C in them
	files  []packages.DebianFile    // in the root filesystem
}

func findGiven(ctx context.Context) (given, error) {
	var g given
	for _, list := range []struct {
		to    *[]packages.DebianPackage
		names []string
	}{
		{&g.beside, []string{"linux-source-6.12", "systemd-boot-efi"}},
		{&g.linked, packages.StaticLibraries},
	} {
		for _, name := range list.names {
			p, err := packages.DescribeDebian(ctx, name)
			if err != nil {
				return g, err
			}
			*list.to = append(*list.to, p)
		}
	}
	var err error
	g.files, err = packages.Debian(ctx)
	return g, err
}

// encode names the document after its content: SPDX wants a name that no other document
// has.
func encode(doc *spdx.Document) ([]byte, error) {
	var text bytes.Buffer
	if err := json.Write(doc, &text, json.Indent(" ")); err != nil {
		return nil, err
	}
	doc.DocumentNamespace = fmt.Sprintf("https://dactyl.invalid/spdx/%s-%x", doc.DocumentName, sha256.Sum256(text.Bytes()))
	text.Reset()
	err := json.Write(doc, &text, json.Indent(" "))
	return text.Bytes(), err
}
