package vm

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
)

// Both archives hold the same image, and the program in it does what scenarios ask.
func TestImages(t *testing.T) {
	oci, docker := readTar(t, TestImage(t)), readTar(t, DockerImage(t))
	var index struct {
		Manifests []struct{ Digest string }
	}
	if err := json.Unmarshal(oci["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	if err := json.Unmarshal(oci["blobs/sha256/"+index.Manifests[0].Digest[len("sha256:"):]], &manifest); err != nil {
		t.Fatal(err)
	}
	var saved []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(docker["manifest.json"], &saved); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{manifest.Config.Digest, saved[0].Config}, {manifest.Layers[0].Digest, saved[0].Layers[0]}} {
		inside := docker[pair[1]]
		if len(inside) == 0 || digest(inside) != pair[0] || !bytes.Equal(oci["blobs/sha256/"+pair[0][len("sha256:"):]], inside) {
			t.Errorf("%s of one archive is not %s of the other", pair[0], pair[1])
		}
	}
}

func readTar(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// kubectl cp runs tar and test in the pod; here they run on this host.
func TestWorkloadIsATar(t *testing.T) {
	dir := t.TempDir()
	if _, err := WriteTestImage(t.Context(), repository(t), dir, TestImageName, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/in", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/in/a", []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `mkdir out && ln -s workload tar && ln -s workload test && ./test -d in && ! ./test -d in/a 2>/dev/null && ` +
		`./tar cf - in | ./tar -xmf - -C out && ./workload cat out/in/a && echo more | ./workload write out/in/b && ./workload ls out/in`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("content\n")) || !bytes.Contains(out, []byte("out/in/b")) {
		t.Errorf("%v: %s", err, out)
	}
}
