package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/pods"
)

const loadLong = `Send an image to the machine, so that pods start from it without a registry.

FILE is what "docker save" or "podman save" writes, or a tar of an OCI image layout,
plain or compressed with gzip; - is standard input. It is streamed: the machine
checks it as it comes, and keeps nothing of an archive that is damaged or cut off.

The image stays until "dactyl image remove". A name that stands for another image is
refused without --replace: give each version its own tag.

A pod names it as the archive does. The command prints how; podman, for one, saves
app:1 as localhost/app:1. It is used with imagePullPolicy: IfNotPresent or Never.`

func loadFlags(f *pflag.FlagSet) {
	f.String("name", "", "`name` for an archive of one image that has none")
	f.Bool("replace", false, "let names that stand for other images stand for these (takes an admin)")
}

// showImages lists an image once for each of its names.
func showImages(c *call, r *pods.ListImagesResponse) error {
	if c.output == asTable {
		c.note("%s free for more", size(r.DiskFreeBytes))
	}
	return c.show(r, func() table { return imageTable(r) })
}

func imageTable(r *pods.ListImagesResponse) table {
	t := table{header: []string{"NAME", "ID", "SIZE", "FROM"}}
	for _, i := range r.Images {
		names := i.Names
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			t.add(name, shortID(i.Id), size(i.SizeBytes), imageOrigin(i))
		}
	}
	return t
}

// imageOrigin says where an image came from, and with it what removes it.
func imageOrigin(i *pods.Image) string {
	switch {
	case i.System:
		return "system"
	case i.Loaded:
		return "load"
	}
	return "pull"
}

// shortID is enough of a digest to name an image on one machine.
func shortID(digest string) string {
	id := strings.TrimPrefix(digest, "sha256:")
	return id[:min(len(id), 12)]
}

func loadImage(c *call) error {
	from, total, err := c.archive(c.args[0])
	if err != nil {
		return err
	}
	defer from.Close()
	return c.withMachine(func(s *session) error {
		answer, err := c.sendImage(s, from, total)
		if status.Code(err) == codes.InvalidArgument {
			return fail(exitRefused, "%s: %s", c.args[0], message(err))
		}
		if err != nil {
			return err
		}
		if c.output == asTable {
			for _, i := range answer.Images {
				for _, name := range i.Names {
					c.note("run it: %s", runCommand(name))
				}
			}
		}
		return c.show(answer, func() table {
			t := table{header: []string{"NAME", "ID", "SIZE"}}
			for _, i := range answer.Images {
				for _, name := range i.Names {
					t.add(name, shortID(i.Id), size(i.SizeBytes))
				}
			}
			return t
		})
	})
}

// runCommand returns the kubectl command that starts a pod from a loaded image. With
// the tag latest, Kubernetes asks a registry unless the pod says otherwise.
func runCommand(name string) string {
	short := strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")
	repository, tag := short, ""
	if at := strings.LastIndexByte(short, ':'); at > strings.LastIndexByte(short, '/') {
		repository, tag = short[:at], short[at+1:]
	}
	pod := strings.Trim(strings.NewReplacer("_", "-", ".", "-").Replace(path.Base(repository)), "-")
	command := fmt.Sprintf("kubectl run %s --image=%s", pod, short)
	if tag == "latest" {
		command += " --image-pull-policy=IfNotPresent"
	}
	return command
}

// archive opens what is to be sent; its size is 0 where it cannot be known.
func (c *call) archive(path string) (*os.File, int64, error) {
	f := c.stdin
	if path == "-" {
		if c.asks() {
			return nil, 0, fail(exitUsage, "standard input is a terminal: want an archive")
		}
	} else {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, 0, err
		}
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case st.IsDir():
		return nil, 0, fail(exitUsage, "%s is a directory: want an archive (a layout can be packed with tar -C %s -cf image.tar .)", path, path)
	case st.Mode()&fs.ModeType != 0:
		return f, 0, nil
	}
	return f, st.Size(), nil
}

func (c *call) sendImage(s *session, from io.Reader, total int64) (*pods.LoadImageResponse, error) {
	load := pods.NewClient(s).LoadImage
	if c.isSet("replace") {
		load = pods.NewClient(s).ReplaceImage
	}
	up, err := load(c.ctx)
	if err != nil {
		return nil, err
	}
	if err := up.Send(&pods.LoadImageRequest{Header: &pods.LoadImageHeader{SizeBytes: uint64(total), Name: c.flag("name")}}); err != nil {
		return nil, err
	}
	bar := func(int64) {}
	if total > 0 {
		bar = c.progress("sending", total)
	}
	piece := make([]byte, uploadChunk)
	for {
		n, err := io.ReadFull(from, piece)
		if n > 0 {
			if err := up.Send(&pods.LoadImageRequest{Chunk: piece[:n]}); err != nil {
				return nil, err
			}
			bar(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return up.CloseAndReceive()
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", c.args[0], err)
		}
	}
}

func removeImage(c *call) error {
	return c.withMachine(func(s *session) error {
		answer, err := pods.NewClient(s).RemoveImage(c.ctx, &pods.RemoveImageRequest{Name: c.args[0]})
		if err != nil {
			return err
		}
		return c.show(answer, func() table {
			t := table{header: []string{"REMOVED"}}
			for _, name := range answer.Names {
				t.add(name)
			}
			return t
		})
	})
}

// imageNames completes the name of an image that can be removed.
func imageNames(c *call) (names []string) {
	s, err := c.connect()
	if err != nil {
		return nil
	}
	defer s.close()
	answer, err := pods.NewClient(s).ListImages(c.ctx, &pods.ListImagesRequest{})
	if err != nil {
		return nil
	}
	for _, i := range answer.Images {
		if !i.System {
			names = append(names, i.Names...)
		}
	}
	return names
}
