package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every cluster.yaml in the documentation is one that configd takes.
func TestExamplesInTheDocs(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	block := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range block.FindAllSubmatchIndex(text, -1) {
			example := text[at[2]:at[3]]
			if strings.Contains(string(example), "apiVersion:") {
				continue // Kubernetes' own
			}
			examples++
			if _, err := parse(filepath.Base(page), example); err != nil {
				t.Errorf("%s, line %d: %v\n%s", page, 1+strings.Count(string(text[:at[0]]), "\n"), err, example)
			}
		}
	}
	if examples < 3 {
		t.Errorf("only %d examples found", examples)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "// # The file\n//\n")
	example, _, found := strings.Cut(rest, "\n//\n// Parsing")
	example = strings.ReplaceAll(strings.ReplaceAll(example, "//\t", ""), "//", "")
	if s, err := parse("doc.go", []byte(example)); err != nil || !found || s.kubernetes == nil {
		t.Errorf("doc.go: %v\n%s", err, example)
	}
}
