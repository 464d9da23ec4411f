package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/pods"
)

// LoadImage implements pods.Server.
func (s *server) LoadImage(ctx context.Context, from ipc.Receiver[*pods.LoadImageRequest]) (*pods.LoadImageResponse, error) {
	return s.upload(ctx, from, false)
}

// ReplaceImage implements pods.Server.
func (s *server) ReplaceImage(ctx context.Context, from ipc.Receiver[*pods.LoadImageRequest]) (*pods.LoadImageResponse, error) {
	return s.upload(ctx, from, true)
}

func (s *server) upload(ctx context.Context, from ipc.Receiver[*pods.LoadImageRequest], replace bool) (*pods.LoadImageResponse, error) {
	first, err := from.Recv()
	switch {
	case err == io.EOF || err == nil && (first.Header == nil || len(first.Chunk) > 0):
		return nil, status.Error(codes.InvalidArgument, "the first message has the header and nothing else")
	case err != nil:
		return nil, err
	}
	name, err := givenName(first.Header.Name)
	if err != nil {
		return nil, answer(err)
	}
	if !s.uploads.TryLock() {
		return nil, status.Error(codes.Aborted, "another archive is being loaded: try again when it is done")
	}
	defer s.uploads.Unlock()
	s.c.loads.Lock() // the system's own take no time
	defer s.c.loads.Unlock()
	ctx, stop, err := s.guard(ctx, first.Header.SizeBytes)
	if err != nil {
		return nil, err
	}
	defer stop()
	began := time.Now()
	u := &upload{from: from, announced: first.Header.SizeBytes}
	images, err := loading{c: s.c, name: name, replace: replace}.load(ctx, u)
	if err != nil {
		if ctx.Err() != nil {
			err = status.FromContextError(ctx.Err()).Err()
		}
		if full, ok := context.Cause(ctx).(diskFull); ok {
			err = full
		}
		s.log.Info("archive not loaded", "bytes", u.got, "err", err)
		return nil, answer(err)
	}
	r := &pods.LoadImageResponse{}
	for _, i := range images {
		s.log.Info("image loaded", "name", i.names[0], "digest", i.target.Digest, "bytes", i.size, "took", time.Since(began).Round(time.Millisecond).String())
		r.Images = append(r.Images, &pods.LoadedImage{Id: i.config.Digest, Names: i.names, Digest: i.target.Digest, SizeBytes: uint64(i.size)})
	}
	return r, nil
}

// givenName is the name that a caller wants an image to have, in full.
func givenName(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	return fullName(name)
}

// upload is an archive as it comes.
type upload struct {
	from           ipc.Receiver[*pods.LoadImageRequest]
	rest           []byte // of the latest message
	announced, got uint64
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		m, err := u.from.Recv()
		switch {
		case err == io.EOF && u.got < u.announced:
			return 0, bad("the archive is cut off: %d of %d bytes came", u.got, u.announced)
		case err == io.EOF:
			return 0, io.EOF
		case err != nil:
			return 0, outside{err}
		case m.Header != nil:
			return 0, bad("a message after the first has a header")
		}
		u.rest = m.Chunk
		u.got += uint64(len(m.Chunk))
		if u.announced != 0 && u.got > u.announced {
			return 0, bad("more than the %d bytes came that were announced", u.announced)
		}
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// diskFull refuses what would leave too little of the volume to the pods.
type diskFull struct{ size, used, wanted uint64 }

func (e diskFull) Error() string {
	what := "the disk is too full for this image"
	if e.wanted > 0 {
		what = fmt.Sprintf("the archive has %s", mebibytes(e.wanted))
	}
	return fmt.Sprintf("%s: %s of %s are used, and %d%% stay free for the pods; remove images that nothing uses", what, mebibytes(e.used), mebibytes(e.size), pods.ReservePercent)
}

func mebibytes(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }

// GRPCStatus makes it a status.
func (e diskFull) GRPCStatus() *status.Status { return status.New(codes.ResourceExhausted, e.Error()) }

// guardEvery is how often a load's disk is looked at: what a disk takes in that
// time fits into the reserve many times.
const guardEvery = 200 * time.Millisecond

// guard ends the returned context when the volume is too full. An archive of a
// known size that cannot fit is refused at once.
func (s *server) guard(ctx context.Context, wanted uint64) (context.Context, func(), error) {
	v, err := s.volume(ctx)
	if err != nil {
		return nil, nil, err
	}
	if free := room(v.SizeBytes, v.UsedBytes); free == 0 || wanted > free {
		return nil, nil, diskFull{v.SizeBytes, v.UsedBytes, wanted}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(guardEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if v, err := s.volume(ctx); err == nil && room(v.SizeBytes, v.UsedBytes) == 0 {
				cancel(diskFull{v.SizeBytes, v.UsedBytes, 0})
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }, nil
}
