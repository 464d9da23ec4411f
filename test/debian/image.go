package debian

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// App is an image to be made.
type App struct {
	Name     string   // repository and tag, such as "redis:1"
	Packages []string // all that have to be there: nothing is resolved
	Users    []string // lines of /etc/passwd beyond root's; each has a group of the same name and number
	Script   string   // the entry point, a shell script
	Command  []string // its arguments, unless the pod says otherwise
	Files    map[string]string
	Env      []string
}

// base is in every image: libraries that nearly all programs need, and a shell.
var base = []string{"busybox-static", "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libssl3", "libcrypt1"}

// commands are busybox's, as links to it.
var commands = []string{
	"sh", "cat", "chown", "chmod", "cp", "date", "du", "env", "find", "grep", "head", "id", "kill", "ls", "mkdir", "mv", "nslookup",
	"ps", "rm", "sed", "sleep", "sort", "stat", "su", "tail", "test", "touch", "tr", "uname", "vi", "wc", "wget", "which", "whoami",
}

const entrypoint = "/usr/local/bin/docker-entrypoint.sh"

// Archive makes the image as docker save writes it, and returns the file.
func Archive(t *testing.T, a App) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, deb := range download(t, append(append([]string{}, base...), a.Packages...)) {
		if out, err := exec.Command("dpkg-deb", "--extract", deb, root).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb --extract %s: %v: %s", deb, err, out)
		}
	}
	if err := a.furnish(root); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "image.tar")
	if err := a.pack(root, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// download returns the packages' files, from the cache or from apt's mirror.
func download(t *testing.T, packages []string) []string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "dactyl", "debian")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, name := range packages {
		found, _ := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if len(found) == 0 {
			get := exec.Command("apt-get", "download", name)
			get.Dir = dir
			if out, err := get.CombinedOutput(); err != nil {
				t.Fatalf("apt-get download %s: %v: %s", name, err, out)
			}
			found, _ = filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		}
		if len(found) == 0 {
			t.Fatalf("apt-get download %s left no file in %s", name, dir)
		}
		files = append(files, found[len(found)-1])
	}
	return files
}

// furnish adds what no package has.
func (a App) furnish(root string) error {
	for _, name := range commands {
		if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "var"), 0o755); err != nil {
		return err
	}
	if err := os.Symlink("/run", filepath.Join(root, "var/run")); err != nil && !os.IsExist(err) {
		return err
	}
	files := map[string]string{
		"/etc/passwd":        "root:x:0:0:root:/:/bin/sh\n" + strings.Join(a.Users, "\n") + "\n",
		"/etc/group":         groups(a.Users),
		"/etc/shadow":        "root:*:::::::\n",
		"/tmp/.keep":         "",
		"/var/log/.keep":     "",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
		entrypoint:           a.Script,
	}
	for path, text := range a.Files {
		files[path] = text
	}
	for path, text := range files {
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(root, "tmp"), 0o777|fs.ModeSticky)
}

func groups(users []string) string {
	all := "root:x:0:\n"
	for _, line := range users {
		if f := strings.Split(line, ":"); len(f) > 3 {
			all += f[0] + ":x:" + f[3] + ":\n"
		}
	}
	return all
}

// unread are the files that no program in a container reads.
var unread = []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian"}

// pack writes the archive: one layer, its configuration, and a manifest.
func (a App) pack(root, path string) error {
	layer := filepath.Join(filepath.Dir(path), "layer.tar")
	if err := writeLayer(root, layer); err != nil {
		return err
	}
	sum, err := digest(layer)
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": []string{entrypoint}, "Cmd": a.Command, "Env": append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, a.Env...)},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": []string{a.Name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for name, text := range map[string][]byte{"config.json": config, "manifest.json": manifest} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	if err := addFile(w, layer, &tar.Header{Name: "layer.tar", Mode: 0o644}); err != nil {
		return err
	}
	return w.Close()
}

func writeLayer(root, path string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		for _, dir := range unread {
			if name == dir {
				return filepath.SkipDir
			}
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, 0, 0, "", ""
		if d.IsDir() {
			h.Name += "/"
		}
		if !info.Mode().IsRegular() {
			return w.WriteHeader(h)
		}
		return addFile(w, path, h)
	})
	if err != nil {
		return err
	}
	return w.Close()
}

func addFile(w *tar.Writer, path string, h *tar.Header) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Size = info.Size()
	if err := w.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	_, err = io.Copy(w, f)
	return err
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
