package licenses

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/dactyl-os/dactyl/buildkit/packages"
)

// debian lists what the image has from Debian's packages: files, and libraries that are
// linked into programs which others wrote.
func debian(ctx context.Context) ([]Component, error) {
	files, err := packages.Debian(ctx)
	if err != nil {
		return nil, err
	}
	var found []packages.DebianPackage
	for _, f := range files {
		found = append(found, f.DebianPackage)
	}
	for _, name := range packages.StaticLibraries {
		p, err := packages.DescribeDebian(ctx, name)
		if err != nil {
			return nil, err
		}
		found = append(found, p)
	}
	var all []Component
	seen := map[string]bool{}
	for _, p := range found {
		if seen[p.Name] {
			continue
		}
		seen[p.Name] = true
		texts, err := debianTexts(p)
		if err != nil {
			return nil, err
		}
		source, _, _ := strings.Cut(p.Source, " ")
		all = append(all, Component{p.Name, upstream(p.Version), p.License, "Debian's source package " + source + ", unchanged", texts})
	}
	return all, nil
}

// upstream leaves out of a version what Debian adds: with it the table would change
// with every one of Debian's fixes.
func upstream(version string) string {
	if _, after, found := strings.Cut(version, ":"); found {
		version = after
	}
	if i := strings.LastIndex(version, "-"); i >= 0 {
		version = version[:i]
	}
	version, _, _ = strings.Cut(version, "+deb") // of Debian's own packages, which have no "-"
	return version
}

// debianTexts are a package's own file and the licences that it only names.
func debianTexts(p packages.DebianPackage) ([]Text, error) {
	content, err := os.ReadFile(p.Copyright)
	if err != nil {
		return nil, err
	}
	texts := []Text{{"copyright", string(content)}}
	for _, l := range []struct{ begins, file string }{{"GPL-2.0", "texts/GPL-2.0.txt"}, {"LGPL-2.1", "texts/LGPL-2.1.txt"}} {
		if !slices.ContainsFunc(strings.Fields(p.License), func(name string) bool { return strings.HasPrefix(name, l.begins) }) {
			continue
		}
		text, err := embedded(l.file)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}
