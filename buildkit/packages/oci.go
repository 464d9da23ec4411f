package packages

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
)

// Image is a container image with one program in it.
type Image struct {
	Name    string // with its tag
	Program string // its path in the image, without the leading slash
	Content []byte
	User    string // uid:gid it runs as
}

// file is one file of an archive.
type file struct {
	name string
	mode int64
	data []byte
}

// blob is a file of an OCI image, named after its content.
type blob struct{ data []byte }

func (b blob) digest() string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b.data)) }
func (b blob) file() file {
	return file{fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(b.data)), 0o644, b.data}
}

// descriptor refers to a blob, as in the OCI image specification 1.1.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (b blob) descriptor(mediaType string) descriptor {
	return descriptor{MediaType: "application/vnd.oci.image." + mediaType, Digest: b.digest(), Size: len(b.data)}
}

// writeImage writes an archive of an OCI image layout to path. The same image gives
// the same bytes: it has no times and no owners.
func writeImage(path string, i Image) error {
	files, err := i.files()
	if err != nil {
		return fmt.Errorf("make the image %s: %w", i.Name, err)
	}
	data, err := archive(files)
	if err != nil {
		return fmt.Errorf("make the image %s: %w", i.Name, err)
	}
	return os.WriteFile(path, data, 0o644)
}

func (i Image) files() ([]file, error) {
	layerTar, err := archive([]file{{i.Program, 0o755, i.Content}})
	if err != nil {
		return nil, err
	}
	layer := blob{layerTar}
	config, err := document(map[string]any{
		"architecture": "amd64",
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": []string{"/" + i.Program}, "User": i.User, "WorkingDir": "/"},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{layer.digest()}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := document(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        config.descriptor("config.v1+json"),
		"layers":        []descriptor{layer.descriptor("layer.v1.tar")},
	})
	if err != nil {
		return nil, err
	}
	top := manifest.descriptor("manifest.v1+json")
	top.Annotations = map[string]string{"io.containerd.image.name": i.Name, "org.opencontainers.image.ref.name": i.Name}
	index, err := document(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.index.v1+json",
		"manifests":     []descriptor{top},
	})
	if err != nil {
		return nil, err
	}
	return []file{
		{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", 0o644, index.data},
		manifest.file(), config.file(), layer.file(),
	}, nil
}

// document encodes maps with sorted keys, so that equal ones are equal bytes.
func document(v any) (blob, error) {
	data, err := json.Marshal(v)
	return blob{data}, err
}

func archive(files []file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}
