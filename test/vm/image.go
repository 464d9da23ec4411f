package vm

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestImageName is the image that TestImage and DockerImage hold; see workload/.
const TestImageName = "dactyl.test/workload:1"

// TestImage returns a tar of an OCI image layout with TestImageName in it.
func TestImage(t *testing.T) string { return testImage(t, TestImageName, ociArchive) }

// DockerImage is TestImage as docker save writes it.
func DockerImage(t *testing.T) string { return DockerImageNamed(t, TestImageName) }

// DockerImageNamed is DockerImage under another name.
func DockerImageNamed(t *testing.T, name string) string { return testImage(t, name, dockerArchive) }

// TestImageNamed is TestImage under another name.
func TestImageNamed(t *testing.T, name string) string { return testImage(t, name, ociArchive) }

func testImage(t *testing.T, name string, form func(string, container) []entry) string {
	t.Helper()
	archive, err := WriteTestImage(Context(t), repository(t), t.TempDir(), name, form)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// WriteTestImage builds the workload of the repository at root into an archive in
// dir. A nil form is an OCI layout.
func WriteTestImage(ctx context.Context, root, dir, name string, form func(string, container) []entry) (string, error) {
	if form == nil {
		form = ociArchive
	}
	program := filepath.Join(dir, "workload")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", program, "./test/vm/workload")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the workload: %w: %s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	archive := filepath.Join(dir, "workload.tar")
	return archive, os.WriteFile(archive, tarOf(form(name, containerOf(name, text))), 0o644)
}

// entry is a file of an archive, or a link if it has a target.
type entry struct {
	name, target string
	mode         int64
	data         []byte
}

// tarOf has no times and no owners: equal entries are equal bytes.
func tarOf(entries []entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.target != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.target
		}
		if e.mode&0o40000 != 0 {
			h.Typeflag, h.Mode = tar.TypeDir, e.mode&0o7777
		}
		// A bytes.Buffer takes everything, and the headers are ours.
		if err := w.WriteHeader(&h); err != nil {
			panic("BUG: " + err.Error())
		}
		if _, err := w.Write(e.data); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	if err := w.Close(); err != nil {
		panic("BUG: " + err.Error())
	}
	return b.Bytes()
}

// container is an image's only layer and its configuration.
type container struct{ layer, config []byte }

// containerOf puts the program into an image where it has all its names.
func containerOf(name string, program []byte) container {
	const directory, anybody = 0o40755, 0o41777
	layer := tarOf([]entry{
		{"bin/", "", directory, nil},
		{"bin/workload", "", 0o755, program},
		{"bin/tar", "workload", 0o777, nil},
		{"bin/test", "workload", 0o777, nil},
		{"tmp/", "", anybody, nil},
	})
	config := encode(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Labels": map[string]string{"org.opencontainers.image.ref.name": name}, // so that images of two names are two images
			"Entrypoint": []string{"/bin/workload"}, "Env": []string{"PATH=/bin"}, "User": "65532:65532", "WorkingDir": "/tmp"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	return container{layer, config}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// ociArchive is an image layout of the OCI's specification 1.1.
func ociArchive(name string, c container) []entry {
	const media = "application/vnd.oci.image."
	refer := func(kind string, b []byte) map[string]any {
		return map[string]any{"mediaType": media + kind, "digest": digest(b), "size": len(b)}
	}
	manifest := encode(map[string]any{
		"schemaVersion": 2, "mediaType": media + "manifest.v1+json",
		"config": refer("config.v1+json", c.config), "layers": []any{refer("layer.v1.tar", c.layer)},
	})
	top := refer("manifest.v1+json", manifest)
	top["annotations"] = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
	index := encode(map[string]any{"schemaVersion": 2, "mediaType": media + "index.v1+json", "manifests": []any{top}})
	out := []entry{{"oci-layout", "", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", "", 0o644, index}}
	for _, blob := range [][]byte{manifest, c.config, c.layer} {
		out = append(out, entry{fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(blob)), "", 0o644, blob})
	}
	return out
}

// dockerArchive is what docker save wrote until its release 25, and podman writes.
func dockerArchive(name string, c container) []entry {
	config := fmt.Sprintf("%x.json", sha256.Sum256(c.config))
	layer := fmt.Sprintf("%x/layer.tar", sha256.Sum256(c.layer))
	manifest := encode([]map[string]any{{"Config": config, "RepoTags": []string{name}, "Layers": []string{layer}}})
	return []entry{{layer, "", 0o644, c.layer}, {config, "", 0o644, c.config}, {"manifest.json", "", 0o644, manifest}}
}
