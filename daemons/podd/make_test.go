package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Archives as the tools write them, made by hand: what they look like does not
// change under a test.

// entry is one file of a tar; a link has where it leads.
type entry struct {
	name string
	data []byte
	link string
}

func tarOf(entries ...entry) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o755, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		w.Write(e.data)
	}
	w.Close()
	return out.Bytes()
}

func gzipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(data)
	w.Close()
	return out.Bytes()
}

// zstandard is data as a zstd frame whose blocks are stored as they are (RFC 8878):
// enough to see whether it is unpacked.
func zstandard(data []byte) []byte {
	const largest = 128 << 10
	out := []byte(zstdMagic)
	out = append(out, 0b1010_0000) // one segment, its size in 4 bytes
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	for len(data) > 0 {
		n := min(len(data), largest)
		h := uint32(n) << 3
		if n == len(data) {
			h |= 1
		}
		out = append(out, byte(h), byte(h>>8), byte(h>>16))
		out = append(out, data[:n]...)
		data = data[n:]
	}
	return out
}

// layer is one layer of an image to be made: a tar, and what packs it.
type layer struct {
	tar  []byte
	kind string // media type
}

func (l layer) packed() []byte {
	switch {
	case strings.HasSuffix(l.kind, "gzip"):
		return gzipped(l.tar)
	case strings.HasSuffix(l.kind, "zstd"):
		return zstandard(l.tar)
	}
	return l.tar
}

// recipe is an image to be made.
type recipe struct {
	layers []layer
	arch   string
	run    []string
}

func text(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (r recipe) config() []byte {
	var ids []string
	for _, l := range r.layers {
		ids = append(ids, digestOf(l.tar))
	}
	arch := r.arch
	if arch == "" {
		arch = "amd64"
	}
	return text(map[string]any{
		"architecture": arch, "os": "linux", "config": map[string]any{"Entrypoint": r.run},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
}

func blobEntry(data []byte) entry {
	return entry{name: "blobs/sha256/" + strings.TrimPrefix(digestOf(data), "sha256:"), data: data}
}

func refTo(kind string, data []byte) descriptor {
	return descriptor{MediaType: kind, Digest: digestOf(data), Size: int64(len(data))}
}

// manifest returns the image's manifest and all blobs it needs.
func (r recipe) manifest() (data []byte, blobs []entry) {
	config := r.config()
	blobs = append(blobs, blobEntry(config))
	var layers []descriptor
	for _, l := range r.layers {
		blobs = append(blobs, blobEntry(l.packed()))
		layers = append(layers, refTo(l.kind, l.packed()))
	}
	data = text(map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "config": refTo(typeConfig, config), "layers": layers})
	return data, append(blobs, blobEntry(data))
}

// ociArchive is a layout with these images, in the order of docker buildx: the
// documents come last.
func ociArchive(blobs []entry, images ...descriptor) []byte {
	return tarOf(append(blobs,
		entry{name: "index.json", data: text(map[string]any{"schemaVersion": 2, "manifests": images})},
		entry{name: "oci-layout", data: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
	)...)
}

// oci is an archive with one image.
func (r recipe) oci(annotation, name string) []byte {
	manifest, blobs := r.manifest()
	d := refTo(typeManifest, manifest)
	d.Annotations = map[string]string{annotation: name}
	return ociArchive(blobs, d)
}

// docker is what docker save wrote before version 25 and podman writes today: every
// layer once, and again by a link under an older name.
func (r recipe) docker(names ...string) []byte {
	var entries []entry
	var layers []string
	for _, l := range r.layers {
		name := strings.TrimPrefix(digestOf(l.packed()), "sha256:") + ".tar"
		entries = append(entries, entry{name: name, data: l.packed()}, entry{name: "old/" + name + "/layer.tar", link: "../../" + name})
		layers = append(layers, "old/"+name+"/layer.tar")
	}
	config := r.config()
	entries = append(entries, entry{name: "config.json", data: config},
		entry{name: "manifest.json", data: text([]map[string]any{{"Config": "config.json", "RepoTags": names, "Layers": layers}})})
	return tarOf(entries...)
}

// small is an image with two layers that nothing can be started from.
func small(mark string) recipe {
	return recipe{layers: []layer{
		{tarOf(entry{name: "etc/one", data: []byte(mark)}), typeLayerGzip},
		{tarOf(entry{name: "etc/two", data: bytes.Repeat([]byte(mark), 1000)}), typeLayer},
	}}
}

var sleeper = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sleeper")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "sleeper"), "./testdata/sleeper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return out, err
	}
	return os.ReadFile(filepath.Join(dir, "sleeper"))
})

// sleepers is an image that runs the sleeper.
func sleepers(t *testing.T, kind string) recipe {
	t.Helper()
	program, err := sleeper()
	if err != nil {
		t.Fatalf("%v\n%s", err, program)
	}
	return recipe{layers: []layer{{tarOf(entry{name: "sleeper", data: program}, entry{name: "kind", data: []byte(kind)}), kind}}, run: []string{"/sleeper"}}
}
