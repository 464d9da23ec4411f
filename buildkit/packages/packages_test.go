package packages

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func testWorkshop(t *testing.T) *workshop {
	t.Helper()
	w, err := openWorkshop(t.Context(), t.TempDir(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Every entry of the table builds something that is there, under versions that
// go.mod names, and no two go to the same place.
func TestTable(t *testing.T) {
	w := testWorkshop(t)
	taken := map[string]string{}
	for _, p := range Packages {
		flags, err := w.linkerFlags(t.Context(), p)
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if strings.ContainsAny(flags, "{}") {
			t.Errorf("%s: not all versions are filled in: %s", p.Name, flags)
		}
		versions, err := w.versions(t.Context(), p.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if p.Module != "" && versions[p.Module] == "" {
			t.Errorf("%s: %s/go.mod does not require %s", p.Name, p.Dir, p.Module)
		}
		for _, name := range append([]string{p.Name}, p.Install...) {
			if other := taken[name]; other != "" {
				t.Errorf("%s belongs to %s and to %s", name, other, p.Name)
			}
			taken[name] = p.Name
		}
		if len(p.Install) == 0 || path.Dir(p.Install[0]) == "." {
			t.Errorf("%s is installed nowhere", p.Name)
		}
	}
}

// What is ours in a module of its own has tests too, which those of this module do not run.
func TestOwnCode(t *testing.T) {
	w := testWorkshop(t)
	out, err := w.goOutput(t.Context(), filepath.Join(w.folder, "kubernetes"), "test", "-count=1", "./collector")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The parts of Kubernetes are released together, and containerd speaks the version of
// the kubelet's interface that it was written for.
func TestVersionsFitTogether(t *testing.T) {
	w := testWorkshop(t)
	versions, err := w.versions(t.Context(), "kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	staging := strings.Replace(versions[kubernetes], "v1.", "v0.", 1)
	if staging == versions[kubernetes] {
		t.Fatalf("%s is %s; want v1.x.y", kubernetes, versions[kubernetes])
	}
	released := []string{"api", "apimachinery", "apiserver", "client-go", "component-base", "cri-api", "cri-client", "kubelet"}
	for _, m := range released {
		if got := versions["k8s.io/"+m]; got != staging {
			t.Errorf("k8s.io/%s is %s; want %s like %s", m, got, staging, kubernetes)
		}
	}
	// What is asked of the go command is the go.mod of containerd itself.
	out, err := w.goOutput(t.Context(), filepath.Join(w.folder, "kubernetes"), "mod", "graph")
	if err != nil {
		t.Fatal(err)
	}
	line := containerd + "@" + versions[containerd] + " k8s.io/cri-api@"
	_, rest, found := strings.Cut(out, line)
	want, _, _ := strings.Cut(rest, "\n")
	if !found || minor(want) != minor(staging) {
		t.Errorf("containerd %s wants cri-api %s; kubernetes has %s", versions[containerd], want, staging)
	}
}

func minor(version string) string { return strings.Join(strings.Split(version, ".")[:2], ".") }

// Without the tags and the edit, each of which is easily lost, the program still
// builds, only bigger. So the edit must fit Go's source, and compile.
func TestTemplateEdit(t *testing.T) {
	dir := t.TempDir()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	replaced, err := overlay(strings.TrimSpace(string(goroot)), dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "vet", "-overlay", replaced, "text/template")
	cmd.Env = environment(false)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", cmd, err, out)
	}
}

// An edit that does not find its place exactly once changes nothing.
func TestEdit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.go")
	for text, want := range map[string]string{
		"package main\n":                  "package cni\n",
		"package other\n":                 "",
		"package main\n// package main\n": "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := edit{old: "package main", new: "package cni"}.edited(file)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestExpand(t *testing.T) {
	versions := map[string]string{"k8s.io/kubernetes": "v1.36.3"}
	for text, want := range map[string]string{
		"a/b.v={k8s.io/kubernetes}":       "a/b.v=v1.36.3",
		"a/b.v={k8s.io/kubernetes major}": "a/b.v=1",
		"a/b.v={k8s.io/kubernetes minor}": "a/b.v=36",
		"a/b.v=clean":                     "a/b.v=clean",
		"a/b.v=":                          "a/b.v=",
		"a/b.v={k8s.io/kubernetes patch}": "",
		"a/b.v={example.org/missing}":     "",
	} {
		got, err := expand(text, versions)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v; want %q", text, got, err, want)
		}
	}
}

// A link leads to its file wherever the root is, and nothing is overwritten.
func TestInstall(t *testing.T) {
	from, root := filepath.Join(t.TempDir(), "built"), t.TempDir()
	if err := os.WriteFile(from, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := []File{{Package: "p", From: from, Path: "/lib/p/p", Links: []string{"/lib/pods/bin/q"}}}
	if err := Install(root, files); err != nil {
		t.Fatal(err)
	}
	elsewhere := root + "-moved"
	if err := os.Rename(root, elsewhere); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/lib/p/p", "/lib/pods/bin/q"} {
		text, err := os.ReadFile(filepath.Join(elsewhere, path))
		if err != nil || string(text) != "program" {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	if err := Install(elsewhere, files); !errors.Is(err, os.ErrExist) {
		t.Errorf("installed over itself: %v", err)
	}
}

// Two packages of one folder, or one whose flags change, are not taken for one
// another.
func TestKey(t *testing.T) {
	w := testWorkshop(t)
	keys := map[string]bool{}
	shim := Packages[slices.IndexFunc(Packages, func(p Package) bool { return p.Name == "containerd-shim-runc-v2" })]
	changed, again := shim, shim
	changed.Tags = []string{"other"}
	for _, p := range []Package{shim, changed, again} {
		key, err := w.key(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		keys[key] = true
	}
	if len(keys) != 2 {
		t.Errorf("three packages, two of them equal, have %d keys", len(keys))
	}
}

// What is in the cache is whole, and a build that failed leaves nothing.
func TestMake(t *testing.T) {
	w := testWorkshop(t)
	broken := errors.New("broken")
	_, err := w.make(t.Context(), "key", "program", func(dir, out string) error {
		if err := os.WriteFile(out, []byte("half"), 0o755); err != nil {
			t.Fatal(err)
		}
		return broken
	})
	if !errors.Is(err, broken) || exists(w.file("key", "program")) || exists(filepath.Join(w.cache, "key.tmp")) {
		t.Fatalf("a build that failed left something: %v", err)
	}
	built := 0
	for range 2 {
		file, err := w.make(t.Context(), "key", "program", func(dir, out string) error {
			built++
			return os.WriteFile(out, []byte("whole"), 0o755)
		})
		if text, _ := os.ReadFile(file); err != nil || string(text) != "whole" {
			t.Fatalf("%q, %v", text, err)
		}
	}
	if built != 1 {
		t.Errorf("built %d times", built)
	}
}

// The guard finds a program that calls methods by name, and lets others pass.
func TestDeadCodeGuard(t *testing.T) {
	for name, want := range map[string]bool{"plain": true, "reflective": false} {
		program := filepath.Join(t.TempDir(), name)
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "./testdata/"+name)
		cmd.Env = environment(false)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		if err := checkDeadCode(program); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The pause image can be imported: its parts are there under the digests that refer to
// them, and it is the same every time.
func TestPauseImage(t *testing.T) {
	first, second := pauseImage(t), pauseImage(t)
	if !bytes.Equal(first, second) {
		t.Error("two builds differ")
	}
	files := untar(t, first)
	index := decode[struct{ Manifests []descriptor }](t, files["index.json"])
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations["io.containerd.image.name"] != PauseImage {
		t.Fatalf("index %s", files["index.json"])
	}
	manifest := decode[struct {
		Config descriptor
		Layers []descriptor
	}](t, referred(t, files, index.Manifests[0]))
	config := decode[struct {
		Config struct{ Entrypoint []string }
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}](t, referred(t, files, manifest.Config))
	layer := referred(t, files, manifest.Layers[0])
	if config.RootFS.DiffIDs[0] != (blob{layer}).digest() {
		t.Error("the layer is not the one of the configuration")
	}
	program := untar(t, layer)[strings.TrimPrefix(config.Config.Entrypoint[0], "/")]
	if len(program) == 0 || len(program) > 4096 {
		t.Errorf("pause has %d bytes", len(program))
	}
}

func pauseImage(t *testing.T) []byte {
	t.Helper()
	files, err := testWorkshop(t).pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(files[1].From)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func referred(t *testing.T, files map[string][]byte, d descriptor) []byte {
	t.Helper()
	data, ok := files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
	if !ok || len(data) != d.Size || (blob{data}).digest() != d.Digest {
		t.Fatalf("%s is not what refers to it: %d bytes", d.Digest, len(data))
	}
	return data
}

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
