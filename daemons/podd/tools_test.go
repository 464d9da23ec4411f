package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
)

// crane is the release of crane whose archives are read.
const crane = "github.com/google/go-containerregistry/cmd/crane@v0.22.1"

// Archives that other programs have written, as podd reads them. It needs no containerd.
func TestArchivesOfTools(t *testing.T) {
	dir := t.TempDir()
	layer := filepath.Join(dir, "layer.tar")
	if err := os.WriteFile(layer, tarOf(entry{name: "etc/one", data: []byte("one")}), 0o644); err != nil {
		t.Fatal(err)
	}
	to, layout := filepath.Join(dir, "to.tar"), filepath.Join(dir, "layout")
	pack := []string{"tar", "-C", layout, "-czf", to, "."}

	t.Run("podman", func(t *testing.T) {
		need(t, "podman")
		if os.Geteuid() != 0 {
			t.Skip("only root can run podman here")
		}
		podman := func(args ...string) []string {
			return append([]string{"podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}, args...)
		}
		written(t, to, "localhost/app:1", podman("import", "--arch", "amd64", layer, "app:1"), podman("save", "-o", to, "app:1"))
		written(t, to, "localhost/app:1", podman("save", "--format", "oci-archive", "-o", to, "app:1"))
		written(t, to, "localhost/app:1", podman("tag", "app:1", "other:2"), podman("save", "-m", "-o", to, "app:1", "other:2"))
	})
	t.Run("skopeo", func(t *testing.T) {
		need(t, "skopeo")
		from := filepath.Join(dir, "from.tar")
		if err := os.WriteFile(from, small("skopeo").docker("app:1"), 0o644); err != nil {
			t.Fatal(err)
		}
		written(t, to, "example.org/app:1", []string{"skopeo", "copy", "docker-archive:" + from, "oci:" + layout + ":example.org/app:1"}, pack)
	})
	t.Run("crane", func(t *testing.T) {
		need(t, "docker-registry")
		t.Setenv("GOBIN", filepath.Join(dir, "bin"))
		if out, err := exec.Command("go", "install", crane).CombinedOutput(); err != nil {
			t.Skipf("crane cannot be built here: %v\n%s", err, out)
		}
		image := startRegistry(t, "") + "/app:1"
		run := func(args ...string) []string {
			return append([]string{filepath.Join(dir, "bin/crane")}, args...)
		}
		os.RemoveAll(layout)
		written(t, to, image, run("append", "-f", layer, "-t", image), run("mutate", "--set-platform=linux/amd64", "-t", image, image), run("pull", image, to))
		written(t, to, image, run("pull", "--format=legacy", image, to))
		written(t, to, image, run("pull", "--format=oci", "--annotate-ref", image, layout), pack)
	})
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("no %s here: apt install %s", program, program)
	}
}

// startRegistry runs Debian's registry without TLS on a port of this machine.
// more is added to its configuration.
func startRegistry(t *testing.T, more string) (address string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: '127.0.0.1:0', secret: test}\n%s", t.TempDir(), more)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if m := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`).FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, log)
			return m[1]
		}
	}
	t.Fatalf("docker-registry does not listen: %v", lines.Err())
	return ""
}

// written runs commands that write an archive, and reads it: its first image has one
// name and all of its layers.
func written(t *testing.T, file, want string, commands ...[]string) {
	t.Helper()
	os.Remove(file)
	for _, args := range commands {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string][]byte{}
	a, err := readArchive(bytes.NewReader(data), func(_ int64, r io.Reader) (string, error) {
		data, err := io.ReadAll(r)
		blobs[digestOf(data)] = data
		return digestOf(data), err
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := a.images("", func(b blob) ([]byte, error) { return blobs[b.digest], nil })
	if err != nil {
		t.Fatal(err)
	}
	if got := all[0].names[0]; got != want || len(all[0].layers) != len(all[0].diffIDs) {
		t.Errorf("%s with %d layers, want %s with %d", got, len(all[0].layers), want, len(all[0].diffIDs))
	}
}
