package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/dactyl-os/dactyl/ctl/internal/flash"
)

const flashLong = `Write an image to a disk, read every byte back and compare it.

Everything on the disk is lost. A disk is refused, and nothing written, that is
the running system's own, that has anything mounted, used as swap or held by LVM,
dm-crypt or md, that is read-only or too small. A partition is refused: name the
whole disk. --file writes a plain file instead; one that is not empty counts as a
disk of its size. Disks are written on Linux only.

--config puts a machine's YAML on the disk, to be read at its first boot.`

// maxConfig is more than any machine's YAML has, and less than would crowd the
// EFI system partition.
const maxConfig = 1 << 20

func flashFlags(f *pflag.FlagSet) {
	consentFlags(f)
	f.Bool("file", false, "DEVICE is a plain file")
	f.String("config", "", "`cluster.yaml` to put on the disk")
}

// flashing is one image on its way to one target.
type flashing struct {
	*call
	image  *os.File
	size   int64
	config []byte // nil: none
}

func flashImage(c *call) error {
	f := &flashing{call: c}
	if err := f.open(c.args[0]); err != nil {
		return err
	}
	defer f.image.Close()
	if err := f.readConfig(c.flag("config")); err != nil {
		return err
	}
	t, err := f.target(c.args[1])
	if err != nil {
		return refusal(err)
	}
	err = f.write(t)
	return errors.Join(err, t.Close())
}

// open opens the image and refuses what cannot be one.
func (f *flashing) open(path string) error {
	image, err := os.Open(path)
	if err != nil {
		return err
	}
	f.image = image
	st, err := image.Stat()
	if err != nil {
		return err
	}
	if f.size = st.Size(); !st.Mode().IsRegular() || f.size == 0 {
		return fail(exitRefused, "%s is not an image: want a plain file that is not empty", path)
	}
	head := make([]byte, 8)
	if _, err := image.ReadAt(head, 0); err != nil && f.size >= int64(len(head)) {
		return err
	}
	for _, k := range compressions {
		if bytes.HasPrefix(head, []byte(k.magic)) {
			return fail(exitRefused, "%s is compressed: unpack it first (%s)", path, k.unpack)
		}
	}
	return nil
}

// compressions are those in which images are passed on.
var compressions = []struct{ magic, unpack string }{
	{"\x28\xb5\x2f\xfd", "unzstd"},
	{"\xfd7zXZ\x00", "unxz"},
	{"\x1f\x8b", "gunzip"},
	{"BZh", "bunzip2"},
	{"PK\x03\x04", "unzip"},
}

// readConfig takes the YAML that goes with the image. Only the machine knows
// what is right in it; here it must be YAML at all.
func (f *flashing) readConfig(path string) error {
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) > maxConfig {
		return fail(exitRefused, "%s has %s: too large for a machine's YAML", path, size(int64(len(b))))
	}
	var any yaml.Node
	if err := yaml.Unmarshal(b, &any); err != nil {
		return fail(exitRefused, "%s: %w", path, err)
	}
	if err := flash.HasESP(f.image); err != nil {
		return fail(exitRefused, "no place for %s: %w", path, err)
	}
	f.config = b
	return nil
}

// target looks at the target, asks, and opens it. Nothing is written yet.
func (f *flashing) target(path string) (*flash.Target, error) {
	if f.isSet("file") {
		return f.fileTarget(path)
	}
	d, err := flash.ThisHost.Check(path, f.size)
	if err != nil {
		return nil, err
	}
	about := []string{size(d.Bytes)}
	if d.Model != "" {
		about = append(about, d.Model)
	}
	if d.Removable {
		about = append(about, "removable")
	}
	if err := f.consent("Overwrite %s (%s)? Everything on it will be lost.", path, strings.Join(about, ", ")); err != nil {
		return nil, err
	}
	return flash.ThisHost.OpenDevice(d)
}

func (f *flashing) fileTarget(path string) (*flash.Target, error) {
	d, isNew, err := flash.CheckFile(path, f.size)
	if err != nil {
		return nil, err
	}
	if same(f.image, path) {
		return nil, fail(exitRefused, "%s is the image itself", path)
	}
	if !isNew {
		if err := f.consent("Overwrite the file %s (%s)?", path, size(d.Bytes)); err != nil {
			return nil, err
		}
	}
	return flash.OpenFile(d)
}

func same(image *os.File, path string) bool {
	a, errA := image.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// write writes and verifies. Whatever stops it, the user learns in which state
// the target is left.
func (f *flashing) write(t *flash.Target) error {
	if err := t.Write(f.ctx, f.image, f.size, f.progress("writing", f.size)); err != nil {
		return f.left(t, "is now incomplete: it will not boot, and what was on it is lost", err)
	}
	sum, err := t.Verify(f.ctx, f.image, f.size, f.progress("verifying", f.size))
	if err != nil {
		return f.left(t, "is written but not verified: do not rely on it", err)
	}
	if f.config != nil {
		if err := t.AddConfig(f.config); err != nil {
			return f.left(t, "holds the image, but perhaps not the YAML", err)
		}
	}
	f.note("%s holds the image, verified: %d bytes, SHA-256 %x.", t.Path, f.size, sum)
	if f.config != nil {
		f.note("%s is on its EFI system partition.", flash.ConfigName)
	}
	return nil
}

// left says why writing ended and what that means for the target.
func (f *flashing) left(t *flash.Target, state string, err error) error {
	if f.ctx.Err() != nil {
		return fail(exitInterrupted, "interrupted: %s %s; flash it again", t.Path, state)
	}
	return fail(exitOther, "%w; %s %s", err, t.Path, state)
}

// refusal gives a reason not to write its exit code.
func refusal(err error) error {
	var r *flash.Refused
	if errors.As(err, &r) {
		return fail(exitRefused, "%w; nothing was written", err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fail(exitRefused, "%w; nothing was written: writing to a disk takes root", err)
	}
	return err
}

// progress returns what to tell of every piece done: a bar, where somebody
// looks at it.
func (a *app) progress(what string, total int64) func(int64) {
	if !a.watched() {
		return func(int64) {}
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSetDescription(fmt.Sprintf("%-10s", what)),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(a.stderr) }))
	return func(n int64) { _ = bar.Add64(n) }
}
