package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// hash digests a blob and forgets it.
func hash(_ int64, r io.Reader) (string, error) {
	data, err := io.ReadAll(r)
	return digestOf(data), err
}

// A hundred images in one archive have some thousand files.
func TestManyFiles(t *testing.T) {
	var entries []entry
	for n := range 4100 {
		entries = append(entries, entry{name: fmt.Sprintf("blobs/%064d", n), data: fmt.Append(nil, n)})
	}
	a, err := readArchive(strings.NewReader(string(tarOf(entries...))), hash)
	if err != nil || len(a.blobs) != len(entries) {
		t.Fatalf("%v", err)
	}
	if _, ok := a.byDigest(digestOf([]byte("4099"))); !ok {
		t.Error("the last file is not found")
	}
}

// The list of files is bounded by the memory that it takes, not by their number.
func TestTheListOfFilesIsBounded(t *testing.T) {
	long := strings.Repeat("n", 64<<10)
	var files, links []entry
	for n := range 160 {
		files = append(files, entry{name: fmt.Sprint(long, n), data: []byte("x")})
		links = append(links, entry{name: fmt.Sprint(n), link: long})
	}
	for what, entries := range map[string][]entry{"files": files, "links": links} {
		_, err := readArchive(strings.NewReader(string(tarOf(entries...))), hash)
		if err == nil || !strings.Contains(err.Error(), "8 MiB of memory after 12") {
			t.Errorf("%s: %d files, %v", what, len(entries), err)
		}
	}
}

// Links of which each leads to two others end.
func TestLinksThatBranch(t *testing.T) {
	var entries []entry
	for n := range 64 {
		entries = append(entries, entry{name: strings.Repeat("d/", n+1) + "l", link: "d/l"}, entry{name: "d/l", link: "d/l"})
	}
	a, err := readArchive(strings.NewReader(string(tarOf(entries...))), hash)
	if err != nil {
		t.Fatal(err)
	}
	if b, ok := a.file("d/l"); ok {
		t.Errorf("found %v", b)
	}
}
