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
	layout   []byte            // oci-layout
	index    []byte            // index.json
	manifest []byte            // manifest.json, as docker save writes it
	blobs    map[string]blob   // by path
	links    map[string]string // path → path
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
	// maxFiles is far more than any image has: the least that docker save ever wrote
	// was four files for a layer, and a filesystem has at most 127 layers.
	maxFiles = 4096
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
	a := &archive{blobs: map[string]blob{}, links: map[string]string{}}
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
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if n == maxFiles {
			return bad("the archive has more than %d files: no image has", maxFiles)
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

// add takes one file. Directories and whatever else a tar can hold mean nothing.
func (a *archive) add(h *tar.Header, r io.Reader, put put) (err error) {
	name := path.Clean(h.Name)
	switch {
	case h.Typeflag == tar.TypeSymlink:
		a.links[name] = path.Join(path.Dir(name), h.Linkname)
	case h.Typeflag == tar.TypeLink:
		a.links[name] = path.Clean(h.Linkname)
	case h.Typeflag != tar.TypeReg:
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

func document(h *tar.Header, r io.Reader) ([]byte, error) {
	if h.Size > maxDocument {
		return nil, bad("%s of the archive has %d bytes: at most %d are read", h.Name, h.Size, maxDocument)
	}
	data := make([]byte, h.Size)
	_, err := io.ReadFull(r, data)
	return data, err
}

func (a *archive) addBlob(name string, size int64, r io.Reader, put put) error {
	if size == 0 {
		return nil // nothing of an image is empty
	}
	begin := make([]byte, min(size, magicBytes))
	if _, err := io.ReadFull(r, begin); err != nil {
		return err
	}
	digest, err := put(size, io.MultiReader(bytes.NewReader(begin), r))
	if err != nil {
		return err
	}
	// In an OCI layout a blob's path is its digest.
	if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && "sha256:"+hex != digest {
		return bad("%s of the archive has the digest %s: it is damaged", name, digest)
	}
	a.blobs[name] = blob{digest, size, string(begin)}
	return nil
}

// file returns what is at a path, following links.
func (a *archive) file(name string) (blob, bool) {
	name = path.Clean(name)
	for range 8 {
		if b, ok := a.blobs[name]; ok {
			return b, true
		}
		to, ok := a.links[name]
		if !ok {
			break
		}
		name = to
	}
	return blob{}, false
}

// byDigest returns what has a digest, wherever it is.
func (a *archive) byDigest(digest string) (blob, bool) {
	if hex, ok := strings.CutPrefix(digest, "sha256:"); ok {
		if b, ok := a.blobs["blobs/sha256/"+hex]; ok {
			return b, true
		}
	}
	for _, b := range a.blobs {
		if b.digest == digest {
			return b, true
		}
	}
	return blob{}, false
}
