package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// An archive is what was read from a tar of images: the documents that say what
// it is, and the digests of everything else, which has been put away.
type archive struct {
	layout   []byte          // oci-layout
	index    []byte          // index.json
	manifest []byte          // manifest.json, as docker save writes it
	blobs    map[string]blob // by path
	digests  map[string]blob // by digest
	links    map[string]link // by path
	paths    int             // bytes that blobs and links take in memory, about
}

// link is a symbolic or hard link of an archive.
type link struct {
	dir string // where a relative target begins; empty for a hard link
	to  string
}

// blob is one file of an archive.
type blob struct {
	digest string
	size   int64
	begin  string // its first bytes, which tell how it is compressed
}

// put puts size bytes away under their digest, which it returns. An error that is
// not r's own is an outside one.
type put func(size int64, r io.Reader) (digest string, err error)

const (
	// maxPaths is how much memory the list of an archive's files may take: an eighth of
	// podd's. It is enough for 20,000 files, which is some hundred images.
	maxPaths = 8 << 20
	// pathBytes is what a file takes in that list besides its path.
	pathBytes = 320
	// maxDocument is how large a document may be, which is held in memory: containerd
	// takes none larger than this from a registry either.
	maxDocument = 4 << 20
	// magicBytes tell gzip and zstd.
	magicBytes = 4
)

const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// badArchive says in a sentence what is wrong with an archive.
type badArchive struct{ why string }

func (e badArchive) Error() string { return e.why }

func bad(format string, a ...any) error { return badArchive{fmt.Sprintf(format, a...)} }

// outside is an error that is not the archive's fault.
type outside struct{ error }

func (e outside) Unwrap() error { return e.error }

// readArchive reads a tar, plain or compressed with gzip, to its end. It keeps no
// more than maxDocument of it at a time.
func readArchive(from io.Reader, put put) (*archive, error) {
	a := &archive{blobs: map[string]blob{}, digests: map[string]blob{}, links: map[string]link{}}
	err := a.read(from, put)
	var elsewhere outside
	switch {
	case err == nil:
		return a, nil
	case errors.As(err, &elsewhere):
		return nil, elsewhere.error
	case errors.As(err, new(badArchive)):
		return nil, err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, bad("the archive is cut off")
	}
	return nil, bad("the archive cannot be read: %v", err)
}

func (a *archive) read(from io.Reader, put put) error {
	plain, err := decompress(from)
	if err != nil {
		return err
	}
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := a.add(h, tr, put); err != nil {
			return err
		}
	}
	// What follows the end of a tar is padding; whoever sends it is let finish.
	_, err = io.Copy(io.Discard, plain)
	return err
}

func decompress(from io.Reader) (io.Reader, error) {
	r := bufio.NewReader(from)
	magic, err := r.Peek(magicBytes)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case len(magic) == 0:
		return nil, bad("the archive is empty")
	case strings.HasPrefix(string(magic), gzipMagic):
		return gzip.NewReader(r)
	case string(magic) == zstdMagic:
		return nil, bad("the archive as a whole is compressed with zstd: unpack it with zstd -d first (layers in it may be compressed with zstd)")
	}
	return r, nil
}

// add takes one file. Directories and other things that a tar can hold mean nothing,
// and neither do empty files.
func (a *archive) add(h *tar.Header, r io.Reader, put put) (err error) {
	name := inArchive(h.Name)
	switch {
	case h.Typeflag == tar.TypeSymlink && path.IsAbs(h.Linkname), h.Typeflag == tar.TypeLink:
		return a.addLink(name, link{to: h.Linkname})
	case h.Typeflag == tar.TypeSymlink:
		return a.addLink(name, link{dir: path.Dir(name), to: h.Linkname})
	case h.Typeflag != tar.TypeReg || h.Size == 0:
	case name == "oci-layout":
		a.layout, err = document(h, r)
	case name == "index.json":
		a.index, err = document(h, r)
	case name == "manifest.json":
		a.manifest, err = document(h, r)
	default:
		return a.addBlob(name, h.Size, r, put)
	}
	return err
}

// inArchive returns a path as the archive's root sees it. Whatever the path says, it
// does not lead out of the archive.
func inArchive(name string) string { return path.Clean("/" + name)[1:] }

// room accounts for one more path in memory.
func (a *archive) room(bytes int) error {
	if a.paths += pathBytes + bytes; a.paths > maxPaths {
		return bad("the list of the archive's files needs more than %d MiB of memory after %d files: load fewer images at a time", maxPaths>>20, len(a.blobs)+len(a.links))
	}
	return nil
}

func (a *archive) addLink(name string, l link) error {
	a.links[name] = l
	return a.room(len(name) + len(l.dir) + len(l.to))
}

func document(h *tar.Header, r io.Reader) ([]byte, error) {
	if h.Size > maxDocument {
		return nil, bad("%s of the archive has %d bytes: at most %d are read", h.Name, h.Size, maxDocument)
	}
	data := make([]byte, h.Size)
	_, err := io.ReadFull(r, data)
	return data, err
}

func (a *archive) addBlob(name string, size int64, r io.Reader, put put) error {
	if err := a.room(len(name)); err != nil {
		return err
	}
	begin := make([]byte, min(size, magicBytes))
	if _, err := io.ReadFull(r, begin); err != nil {
		return err
	}
	digest, err := put(size, io.MultiReader(bytes.NewReader(begin), r))
	if err != nil {
		return err
	}
	if claimed := claimedDigest(name); claimed != "" && claimed != digest {
		return bad("%s of the archive has the digest %s: it is damaged", name, digest)
	}
	b := blob{digest, size, string(begin)}
	a.blobs[name], a.digests[digest] = b, b
	return nil
}

// claimedDigest returns the digest that a path of an OCI layout stands for, or "".
// Other names next to the blobs claim nothing: bazel calls layers HEX.tar.gz, and a Mac
// adds ._HEX and .DS_Store.
func claimedDigest(name string) string {
	hex, ok := strings.CutPrefix(name, "blobs/sha256/")
	if digest := "sha256:" + hex; ok && digestPattern.MatchString(digest) {
		return digest
	}
	return ""
}

// file returns what is at a path, following links.
func (a *archive) file(name string) (blob, bool) {
	const mostLinks = 8
	return a.follow(inArchive(name), mostLinks)
}

// follow looks for the target of a link next to the link first. Some programs write
// targets as the archive's root sees them.
func (a *archive) follow(name string, links int) (blob, bool) {
	if b, ok := a.blobs[name]; ok {
		return b, true
	}
	l, ok := a.links[name]
	if !ok || links == 0 {
		return blob{}, false
	}
	if b, ok := a.follow(inArchive(path.Join(l.dir, l.to)), links-1); ok {
		return b, true
	}
	return a.follow(inArchive(l.to), links-1)
}

// byDigest returns what has a digest, wherever it is.
func (a *archive) byDigest(digest string) (blob, bool) {
	b, ok := a.digests[digest]
	return b, ok
}
