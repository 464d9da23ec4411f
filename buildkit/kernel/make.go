package kernel

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// unpack puts the source into the cache once. It needs the lock.
func (w *workshop) unpack(ctx context.Context) error {
	dir := w.sourceDir()
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	fmt.Fprintf(w.progress, "unpack %s\n", sourceTarball)
	tmp := dir + ".tmp"
	if err := freshDir(tmp); err != nil {
		return err
	}
	if err := run(ctx, w.progress, "tar", "-xf", sourceTarball, "-C", tmp, "--strip-components=1"); err != nil {
		return err
	}
	for _, e := range edits {
		if err := e.apply(tmp); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dir)
}

// edit replaces one place of the source.
type edit struct{ file, old, new string }

// edits are what the fragments cannot say. Whoever changes them changes recipe.
var edits = []edit{
	// DRM switches the system call kcmp(2) on for Mesa, which is not here. It
	// tells a program how the addresses of kernel objects are ordered.
	{"drivers/gpu/drm/Kconfig", "\tselect KCMP\n", ""},

	// Upstream asks the device filter of a cgroup when a disk is opened, but not
	// when a disk that is mounted already is mounted a second time. A pod that can
	// mount FUSE or NFS chooses the device nodes in it, so it could mount STATE.
	{"fs/super.c", "#include <linux/blkdev.h>\n", "#include <linux/blkdev.h>\n#include <linux/device_cgroup.h>\n"},
	{"fs/super.c", "\tfc->sb_flags |= SB_NOSEC;\n\ts = sget_dev(fc, dev);\n", mayMount + "\tfc->sb_flags |= SB_NOSEC;\n\ts = sget_dev(fc, dev);\n"},
	{"fs/super.c", "\tflags |= SB_NOSEC;\n\ts = sget(fs_type, test_bdev_super,", strings.Replace(mayMount, "return error", "return ERR_PTR(error)", 1) + "\tflags |= SB_NOSEC;\n\ts = sget(fs_type, test_bdev_super,"},
}

// mayMount asks the device filter whether the disk may be read, since a mount
// without writing asks for no more.
const mayMount = `	error = devcgroup_check_permission(DEVCG_DEV_BLOCK, MAJOR(dev),
					   MINOR(dev), DEVCG_ACC_READ);
	if (error)
		return error;
`

func (e edit) apply(source string) error {
	path := filepath.Join(source, e.file)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), e.old); n != 1 {
		return fmt.Errorf("edit %s: %q is there %d times, not once", e.file, e.old, n)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o644)
}

// make runs one target of the kernel's makefile with its output in dir.
func (w *workshop) make(ctx context.Context, dir string, extra []string, target string) error {
	args := append(w.makeArgs(dir), extra...)
	args = append(args, "-j"+strconv.Itoa(runtime.NumCPU()+1), target)
	return run(ctx, w.progress, "make", args...)
}

// makeArgs fix what the kernel would otherwise take from the machine it is built
// on and print in its banner.
func (w *workshop) makeArgs(dir string) []string {
	return []string{
		"-C", w.sourceDir(), "O=" + dir, "ARCH=x86_64",
		"KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
		"KBUILD_BUILD_VERSION=1", "KBUILD_BUILD_USER=dactyl", "KBUILD_BUILD_HOST=dactyl",
		// Tools this kernel does not need, but whose versions would be in its
		// configuration, and so in the seeds, where they happen to be installed.
		"RUSTC=false", "BINDGEN=false", "PAHOLE=false",
	}
}

// makeEnv keeps the caller's CFLAGS, locale and the like out of the build.
func makeEnv() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LC_ALL=C"}
}

// toolVersions names the compiler and linker: other versions, other bytes.
func toolVersions(ctx context.Context) (string, error) {
	var all []string
	for _, tool := range []string{"gcc", "ld"} {
		cmd := exec.CommandContext(ctx, tool, "--version")
		cmd.Env = makeEnv()
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s --version: %w", tool, err)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		all = append(all, first)
	}
	return strings.Join(all, "\n"), nil
}

// run runs a program and hands its output on line by line. Its last lines are
// part of the error.
func run(ctx context.Context, progress io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = makeEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// make's children must end with it, or they write into a directory that the
	// next build clears.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var last tail
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := strings.Join(strings.Fields(lines.Text()), " ")
		last.add(line)
		fmt.Fprintln(progress, line)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, args[len(args)-1], err, last.text())
	}
	return nil
}

// tail keeps the last lines of a long output.
type tail struct{ lines []string }

func (t *tail) add(line string) {
	const keep = 25 // make -j goes on a while after the line that tells what is wrong
	t.lines = append(t.lines, line)
	if len(t.lines) > keep {
		t.lines = t.lines[1:]
	}
}

func (t *tail) text() string { return strings.Join(t.lines, "\n") }

// artefact is a file to be kept: a copy of another one, or a text.
type artefact struct{ name, from, text string }

// publish makes dir appear with all its files at once.
func publish(dir string, files []artefact) error {
	tmp := dir + ".new"
	if err := freshDir(tmp); err != nil {
		return err
	}
	for _, f := range files {
		to := filepath.Join(tmp, f.name)
		if f.from == "" {
			if err := os.WriteFile(to, []byte(f.text), 0o644); err != nil {
				return err
			}
			continue
		}
		if err := copyFile(to, f.from); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}
