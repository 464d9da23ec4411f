package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// loading is one archive on its way into containerd.
type loading struct {
	c       *containerd
	name    string // for its one image; empty: the archive's names
	replace bool   // names that stand for other images move to the archive's
	system  bool   // the images are the system's
}

// labels returns the labels of a name that the load makes. Where a person loads an image,
// its names with a tag are kept, but not those with a digest: they never move, and would
// keep an image whose name has moved to the next.
func (l loading) labels(name string) map[string]string {
	switch {
	case l.system:
		return map[string]string{pinnedLabel: pinnedValue, loadedLabel: ""}
	case strings.Contains(name, "@"):
		return nil
	}
	return map[string]string{pinnedLabel: pinnedValue, loadedLabel: loadedValue}
}

// load reads an archive and returns its images, which pods can then be started
// from. On an error nothing is left of it. The caller holds c.loads.
func (l loading) load(ctx context.Context, from io.Reader) (all []image, err error) {
	if err := l.c.endLeases(ctx); err != nil {
		return nil, err
	}
	ctx, end, err := l.c.lease(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	a, err := readArchive(from, func(size int64, r io.Reader) (string, error) { return l.c.put(ctx, size, r) })
	if err != nil {
		return nil, err
	}
	all, err = a.images(l.name, func(b blob) ([]byte, error) { return l.c.get(ctx, b) })
	if err != nil {
		return nil, err
	}
	for i := range all {
		if err := l.prepare(ctx, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, l.names(ctx, all)
}

// prepare does everything but the naming.
func (l loading) prepare(ctx context.Context, i *image) error {
	for _, name := range i.names {
		if err := l.mayTake(ctx, name, i); err != nil {
			return err
		}
	}
	if i.made != nil {
		if err := l.c.putBytes(ctx, i.made); err != nil {
			return err
		}
	}
	if err := l.c.unpack(ctx, i); err != nil {
		return err
	}
	for _, k := range i.keeps {
		if err := l.c.label(ctx, k.digest, k.labels); err != nil {
			return err
		}
	}
	return nil
}

// names gives all images their names, or none.
func (l loading) names(ctx context.Context, all []image) (err error) {
	var before []pointing
	defer func() {
		if err == nil {
			return
		}
		for _, p := range slices.Backward(before) {
			err = errors.Join(err, l.c.restore(ctx, p))
		}
	}()
	for _, i := range all {
		// The kubelet's part of containerd adds the id as a name.
		for _, name := range append([]string{i.config.Digest}, i.references()...) {
			p, err := l.c.pointing(ctx, name)
			if err != nil {
				return err
			}
			before = append(before, p)
		}
		for _, name := range i.references() {
			labels := l.labels(name)
			switch err := l.c.name(ctx, name, i.target, labels, l.moves(ctx, name, i)); {
			case errors.Is(err, errTaken):
				return taken(name)
			case err != nil:
				return err
			}
			if err := l.c.seen(ctx, name, i.config.Digest, labels[pinnedLabel] != ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayTake refuses the names of what the system cannot do without, and those of other
// images unless they are to move.
func (l loading) mayTake(ctx context.Context, name string, i *image) error {
	if l.system {
		return nil
	}
	p, err := l.c.picture(ctx, name)
	if err != nil {
		return err
	}
	kept, err := l.c.keptNames(ctx)
	if err != nil {
		return err
	}
	if system, _ := origin(p, kept); system {
		return status.Errorf(codes.FailedPrecondition, "%s belongs to the system: give the image another name", name)
	}
	if !l.replace && p != nil && p.Id != i.config.Digest {
		return taken(name)
	}
	return nil
}

// moves tells whether a name may move to the image i from what it stands for. From the
// same image in another wrapping, as a registry and an archive have it, it may always:
// pods run the same.
func (l loading) moves(ctx context.Context, name string, i image) bool {
	if l.system || l.replace {
		return true
	}
	p, err := l.c.picture(ctx, name)
	return err == nil && p.GetId() == i.config.Digest
}

func taken(name string) error {
	return status.Errorf(codes.FailedPrecondition, "%s stands for another image: give this one another tag, or have an admin replace that one (dactyl image load --replace)", name)
}

const (
	// systemRetry is how long to wait for a containerd that does not answer yet.
	systemRetry = 500 * time.Millisecond
	// systemTimeout is for one attempt: uploads wait for it.
	systemTimeout = 20 * time.Second
)

// importSystem sees to it that the images which the system brings along are there.
func importSystem(ctx context.Context, c *containerd, dir string, log *slog.Logger) error {
	said := ""
	for {
		err := importSystem1(ctx, c, dir, log)
		if err == nil {
			return nil
		}
		if text := err.Error(); text != said && ctx.Err() == nil && status.Code(err) != codes.Unavailable {
			log.Warn("the system's images are not there yet", "err", err)
			said = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(systemRetry):
		}
	}
}

func importSystem1(ctx context.Context, c *containerd, dir string, log *slog.Logger) error {
	c.loads.Lock()
	defer c.loads.Unlock()
	ctx, cancel := context.WithTimeout(ctx, systemTimeout)
	defer cancel()
	if err := c.endLeases(ctx); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		return err
	}
	for _, path := range files {
		if err := importFile(ctx, c, path, log); err != nil {
			return fmt.Errorf("import %s: %w", path, err)
		}
	}
	return nil
}

// importFile loads what is not there yet. Reading a small archive twice is quicker
// than having containerd write and collect it again.
func importFile(ctx context.Context, c *containerd, path string, log *slog.Logger) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	there, err := c.hasAll(ctx, f)
	if err != nil || there {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	all, err := loading{c: c, system: true}.load(ctx, f)
	for _, i := range all {
		log.Info("image imported", "name", i.names[0], "digest", i.target.Digest)
	}
	return err
}

// hasAll tells whether all images of an archive are there, unpacked and pinned.
func (c *containerd) hasAll(ctx context.Context, from io.Reader) (bool, error) {
	blobs := map[string][]byte{}
	a, err := readArchive(from, func(size int64, r io.Reader) (string, error) {
		data, err := io.ReadAll(r)
		blobs[digestOf(data)] = data
		return digestOf(data), err
	})
	if err != nil {
		return false, err
	}
	all, err := a.images("", func(b blob) ([]byte, error) { return blobs[b.digest], nil })
	if err != nil {
		return false, err
	}
	for _, i := range all {
		for _, name := range i.references() {
			if there, err := c.has(ctx, name, i); err != nil || !there {
				return false, err
			}
		}
	}
	return true, nil
}

func (c *containerd) has(ctx context.Context, name string, i image) (bool, error) {
	p, err := c.pointing(ctx, name)
	if err != nil || p.before == nil {
		return false, err
	}
	chain := chainIDs(i.diffIDs)
	if p.before.Target.Digest != i.target.Digest || p.before.Labels[pinnedLabel] != pinnedValue || p.before.Labels[loadedLabel] == loadedValue {
		return false, nil
	}
	return c.unpacked(ctx, chain[len(chain)-1])
}
