package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/daemons/abi"
	pb "github.com/dactyl-os/dactyl/ipc/machine"
)

// A pod chooses what PID 1 deletes: no depth, no number and no attribute may stop
// it, and no link may lead it away.
func TestEmptyDeletesWhateverIsThere(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	e := newEphemeralDirs(t.Errorf)
	e.discard, e.keep = filepath.Join(dir, "discard"), filepath.Join(dir, "keep")
	if err := errors.Join(os.MkdirAll(filepath.Join(e.discard, "1"), 0o755), os.WriteFile(outside, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(e.discard, "1", "link")); err != nil {
		t.Fatal(err)
	}
	makeDeep(t, filepath.Join(e.discard, "1"), 2000)
	for i := range 3 * batch {
		if err := os.Mkdir(filepath.Join(e.discard, fmt.Sprintf("1/wide-%d", i)), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	fixed := filepath.Join(e.discard, "1", "fixed")
	if err := os.Mkdir(fixed, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fixed, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(fixed, "file"), fixed} {
		if err := setImmutable(path); err != nil {
			t.Logf("nothing is immutable here: %v", err)
		}
	}
	before := openDescriptors(t)
	e.empty()
	if left, err := os.ReadDir(e.discard); err != nil || len(left) != 0 {
		t.Errorf("%d entries are left: %v", len(left), err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors became %d", before, after)
	}
}

// Directories that PID 1 deletes, or deletes from, may have been made links, or lie below one.
func TestPrepareDeletesNothingThroughALink(t *testing.T) {
	for _, link := range []string{"dactyl", "dactyl/discarded", "dactyl/aside"} {
		t.Run(link, func(t *testing.T) {
			top := t.TempDir()
			others := filepath.Join(top, "others")
			warned := make(chan struct{}, 10)
			e := newEphemeralDirs(func(string, ...any) { warned <- struct{}{} })
			e.discard, e.keep = filepath.Join(top, "dactyl/discarded"), filepath.Join(top, "dactyl/aside")
			at := filepath.Join(top, link)
			if err := errors.Join(
				os.MkdirAll(filepath.Join(others, "discarded/file"), 0o755), os.MkdirAll(filepath.Join(others, "aside/file"), 0o755),
				os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(others, at),
			); err != nil {
				t.Fatal(err)
			}
			e.prepare(abi.Daemon{Emptied: []string{filepath.Join(top, "boot")}})
			e.begin()
			e.empty()
			<-warned
			for _, name := range []string{"discarded/file", "aside/file"} {
				if _, err := os.Lstat(filepath.Join(others, name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// makeDeep makes directories in each other, deeper than a path can be long.
func makeDeep(t *testing.T, top string, depth int) {
	t.Helper()
	at, err := unix.Open(top, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i := 0; i < depth && err == nil; i++ {
		const name = "a-directory-with-a-long-name"
		if err = unix.Mkdirat(at, name, 0o755); err != nil {
			break
		}
		var next int
		next, err = unix.Openat(at, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(at)
		at = next
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(at)
}

func setImmutable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE)
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// A directory lives as long as its daemon.toml says, and one that its owner cannot
// start with is set aside once, when the domain starts again.
func TestDirectoriesOfADomainLiveAsTheirManifestSays(t *testing.T) {
	const boot, keep = "/var/lib/boot", "/var/lib/pods"
	s := domainSystem()
	i := slices.IndexFunc(s.Daemons, func(d abi.Daemon) bool { return d.Name == "pods" })
	pods := &s.Daemons[i]
	pods.Write = append(pods.Write, boot)
	pods.Emptied, pods.Owned = []string{boot}, []abi.Owned{{Path: keep, Owner: "runtime"}}
	w := &world{t: t, root: t.TempDir(), gone: make(chan struct{})}
	if os.Getuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	w.stage(s)
	for _, name := range []string{boot + "/old", keep + "/old", asideDir + "/last/boot"} {
		if err := os.MkdirAll(filepath.Join(w.root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		w.write(name[1:], []byte("x"))
	}
	w.start()
	there := func(path string) bool {
		_, err := os.Lstat(w.path(path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return err == nil
	}
	expect := func(when, path string, want bool) {
		t.Helper()
		if got := there(path); got != want {
			t.Errorf("%s: %s is there: %v, want %v", when, path, got, want)
		}
	}
	c := w.control()
	for _, name := range []string{"pods", "runtime", "agent"} {
		if _, code := c.begin(name); code != codes.OK {
			t.Fatal(name, code)
		}
	}
	expect("first start", boot+"/old", false)
	expect("first start", keep+"/old", true)
	expect("first start", asideDir+"/last", false)
	w.eventually("what was moved away is deleted", func() bool {
		left, err := os.ReadDir(w.path(discardDir))
		return err == nil && len(left) == 0
	})

	w.write("var/lib/boot/new", []byte("x"))
	setAside := func(name string, want codes.Code) []string {
		t.Helper()
		r, err := c.SetAside(t.Context(), &pb.SetAsideRequest{Name: name})
		if status.Code(err) != want {
			t.Errorf("set aside what belongs to %s: %v, want %v", name, err, want)
		}
		return r.GetPaths()
	}
	setAside("agent", codes.NotFound)
	if paths := setAside("runtime", codes.OK); !slices.Equal(paths, []string{keep}) {
		t.Error(paths)
	}
	setAside("runtime", codes.OK)
	expect("requested", keep+"/old", true)
	if _, code := c.restart("pods"); code != codes.OK {
		t.Fatal(code)
	}
	expect("set aside", keep, true)
	expect("set aside", keep+"/old", false)
	expect("set aside", asideDir+"/var.lib.pods/old", true)
	expect("the same boot", boot+"/new", true)
	setAside("runtime", codes.FailedPrecondition)
	if d := c.daemon(c.Client, "runtime"); !slices.Equal(d.SetAside, []string{keep}) {
		t.Errorf("shown: %v", d.SetAside)
	}
}

// Outside of its directories a domain's root can only be read, but for the places
// that agents are known to write to.
func TestDomainRootIsReadOnly(t *testing.T) {
	c := startDomain(t)
	for dir, want := range map[string]bool{
		"/": false, "/data": false, "/opt": false, "/opt/x": false, "/etc": false, "/etc/cni": false, "/var/lib": false, "/usr/bin": false,
		"/run": true, "/run/other": true, "/tmp": true, "/etc/cni/net.d": true, "/opt/cni/bin": true, "/var/lib/pods": true,
	} {
		answer := c.ask("runtime", "create "+dir)
		if want && answer != "<nil>" || !want && answer != "read-only file system" {
			t.Errorf("write in %s: %s", dir, answer)
		}
	}
}
