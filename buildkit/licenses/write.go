package licenses

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Path is where the texts are on the machine.
const Path = "/usr/share/licenses/licenses.txt"

// WriteTable writes docs/licenses.md.
func WriteTable(w io.Writer, all []Component) {
	fmt.Fprint(w, `# Licences of what is in the image

Dactyl itself is under the Apache License 2.0 (LICENSE). This is what else is in a
production image; the full texts are in the image, in `+Path+`.
Made by `+"`make licenses`"+`, which refuses a Go module whose licence is not known or
asks for more than that its text goes along; do not edit.

| what | version | licence | source |
|---|---|---|---|
`)
	for _, c := range all {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", c.Name, c.Version, c.SPDX, c.Source)
	}
	fmt.Fprintln(w)
	for _, c := range all {
		if j, ok := judged[c.Name]; ok {
			fmt.Fprintf(w, "%s: %s.\n\n", c.Name, j.why)
		}
	}
	fmt.Fprint(w, `The kernel, the boot loader, nft and runc, with the libraries that they have from Debian,
are programs of their own beside ours, not linked with them. So are Kubernetes and
containerd, which alone have modules under MPL-2.0. Whoever gives an image away gives
the sources of all these too, or says where they are.
`)
}

// WriteTexts writes the file at Path: who is in the image under which licence, then
// each text once, under the names of all whom it belongs to.
func WriteTexts(w io.Writer, all []Component) {
	var order []string // texts, in the order of their first owner
	owners := map[string][]string{}
	content := map[string]string{}
	for _, c := range all {
		fmt.Fprintf(w, "%s %s: %s\n    source: %s\n", c.Name, c.Version, c.SPDX, c.Source)
		for _, t := range c.Texts {
			key := strings.Join(strings.Fields(t.Content), " ")
			if owners[key] == nil {
				order = append(order, key)
				content[key] = t.Content
			}
			owners[key] = append(owners[key], fmt.Sprintf("%s (%s)", c.Name, t.File))
		}
	}
	line := strings.Repeat("=", 78)
	for _, key := range order {
		fmt.Fprintf(w, "\n%s\n%s\n%s\n\n%s\n", line, strings.Join(owners[key], "\n"), line, strings.Trim(content[key], "\n"))
	}
}

// Texts is what WriteTexts writes.
func Texts(all []Component) []byte {
	var b bytes.Buffer
	WriteTexts(&b, all)
	return b.Bytes()
}
