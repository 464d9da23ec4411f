package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"

	"github.com/dactyl-os/dactyl/buildkit/packages"
	"github.com/dactyl-os/dactyl/daemons/podd/internal/cri"
)

var discard = slog.New(slog.DiscardHandler)

// peer is the image's own containerd, in namespaces of its own so that all it has
// mounted and started goes with it.
type peer struct {
	t   *testing.T
	dir string
	c   *containerd
	end func()
}

// startContainerd starts one, or skips the test where it has not been built.
func startContainerd(t *testing.T) *peer {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can run containerd")
	}
	dir, err := os.MkdirTemp("", "podd") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &peer{t: t, dir: dir}
	for name, file := range programs(t) {
		if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(file, filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	config := strings.ReplaceAll(containerdConfig, "DIR", dir)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if p.c, err = newContainerd(filepath.Join(dir, "state/containerd.sock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.c.conn.Close() })
	p.start()
	t.Cleanup(func() {
		p.end()
		removeCgroups(filepath.Base(dir))
	})
	return p
}

// removeCgroups removes those that pods have left in the machine's tree, of either
// version.
func removeCgroups(name string) {
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		tops, _ := filepath.Glob(pattern + name)
		for _, top := range tops {
			var all []string
			filepath.WalkDir(top, func(path string, d os.DirEntry, _ error) error {
				if d != nil && d.IsDir() {
					all = append(all, path)
				}
				return nil
			})
			for _, path := range slices.Backward(all) {
				os.Remove(path)
			}
		}
	}
}

// containerdConfig is the machine's, as far as it concerns podd.
const containerdConfig = `version = 3
root = "DIR/root"
state = "DIR/state"
required_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "DIR/state/containerd.sock"
[ttrpc]
  address = "DIR/state/containerd.sock.ttrpc"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  discard_unpacked_layers = true
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "dactyl.invalid/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["DIR/bin"]
    conf_dir = "DIR/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`

// programs are the files under whose names containerd and its helpers run.
func programs(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"containerd":              built(t, "kubernetes", "kubernetes"),
		"containerd-shim-runc-v2": built(t, "containerd-shim-runc-v2", "containerd-shim-runc-v2"),
		"runc":                    built(t, "runc", "runc"),
	}
}

// built returns the latest file of a package in the cache. Building takes many
// minutes, so tests do not: make image does.
func built(t *testing.T, name, file string) string {
	t.Helper()
	cache, err := packages.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob(filepath.Join(cache, name+"-????????????????????", file))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Skipf("%s is not in the cache; make it with go run ./buildkit/cmd/packages", name)
	}
	return slices.MaxFunc(all, func(a, b string) int { return modified(t, a).Compare(modified(t, b)) })
}

func modified(t *testing.T, path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// start runs containerd until end is called.
func (p *peer) start() {
	p.t.Helper()
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
		filepath.Join(p.dir, "bin/containerd"), "--config", filepath.Join(p.dir, "config.toml"))
	cmd.Env = []string{"PATH=" + filepath.Join(p.dir, "bin")}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.end = func() {
		cmd.Process.Kill()
		cmd.Wait()
		if p.t.Failed() {
			text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			p.t.Logf("containerd's log:\n%s", text[max(0, len(text)-8<<10):])
		}
	}
	p.until("containerd serves", func() error {
		_, err := p.c.cri.Version(p.t.Context(), &cri.VersionRequest{})
		return err
	})
}

// until waits for what has no error any more.
func (p *peer) until(what string, try func() error) {
	p.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// inventory is everything that containerd keeps of images, a line for each thing.
func (p *peer) inventory() string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	var lines []string
	say := func(format string, a ...any) { lines = append(lines, fmt.Sprintf(format, a...)) }
	must := func(err error) {
		p.t.Helper()
		if err != nil && err != io.EOF {
			p.t.Fatal(err)
		}
	}
	images, err := p.c.images.List(ctx, &imagesapi.ListImagesRequest{})
	must(err)
	for _, i := range images.GetImages() {
		say("image %s %s", i.Name, i.Target.Digest)
	}
	content, err := p.c.content.List(ctx, &contentapi.ListContentRequest{})
	for err == nil {
		var part *contentapi.ListContentResponse
		if part, err = content.Recv(); err == nil {
			for _, i := range part.Info {
				say("content %s", i.Digest)
			}
		}
	}
	must(err)
	writes, err := p.c.content.ListStatuses(ctx, &contentapi.ListStatusesRequest{})
	must(err)
	for _, s := range writes.GetStatuses() {
		say("unfinished %s", s.Ref)
	}
	begun, err := os.ReadDir(filepath.Join(p.dir, "root/io.containerd.content.v1.content/ingest"))
	must(err)
	for _, d := range begun { // what is damaged there has no status
		say("unfinished, on the disk: %s", d.Name())
	}
	snapshots, err := p.c.snapshots.List(ctx, &snapshotsapi.ListSnapshotsRequest{Snapshotter: snapshotter})
	for err == nil {
		var part *snapshotsapi.ListSnapshotsResponse
		if part, err = snapshots.Recv(); err == nil {
			for _, i := range part.Info {
				say("snapshot %s", i.Name)
			}
		}
	}
	must(err)
	leases, err := p.c.leases.List(ctx, &leasesapi.ListRequest{})
	must(err)
	for _, l := range leases.GetLeases() {
		say("lease %s", l.ID)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
