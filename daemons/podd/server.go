package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/daemons/podd/internal/cri"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/storage"
)

type server struct {
	c       *containerd
	storage storage.Client
	vault   *vault
	log     *slog.Logger

	uploads sync.Mutex // held while one is taken
}

func newServer(c *containerd, s storage.Client, v *vault, log *slog.Logger) *server {
	return &server{c: c, storage: s, vault: v, log: log}
}

// answer turns an error into what the caller is told.
func answer(err error) error {
	var wrong badArchive
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		return status.Error(codes.InvalidArgument, err.Error())
	case status.Code(err) == codes.Unavailable:
		return status.Errorf(codes.Unavailable, "containerd does not answer: no cluster is configured, or it is being started (%s)", status.Convert(err).Message())
	case status.Code(err) == codes.Unknown:
		return status.Error(codes.Internal, err.Error())
	}
	return err
}

// GetRuntime implements pods.Server.
func (s *server) GetRuntime(ctx context.Context, _ *pods.GetRuntimeRequest) (*pods.Runtime, error) {
	v, err := s.c.cri.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return &pods.Runtime{Message: status.Convert(answer(err)).Message()}, nil
	}
	r := &pods.Runtime{Name: v.RuntimeName, Version: v.RuntimeVersion}
	st, err := s.c.cri.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		r.Message = status.Convert(answer(err)).Message()
		return r, nil
	}
	for _, c := range st.GetStatus().GetConditions() {
		switch c.Type {
		case cri.RuntimeReady:
			r.Serving, r.Message = c.Status, c.Message
		case cri.NetworkReady:
			r.NetworkReady, r.NetworkMessage = c.Status, c.Message
		}
	}
	return r, nil
}

// ListPods implements pods.Server.
func (s *server) ListPods(ctx context.Context, _ *pods.ListPodsRequest) (*pods.ListPodsResponse, error) {
	sandboxes, containers, err := s.c.both(ctx)
	if err != nil {
		return nil, answer(err)
	}
	return &pods.ListPodsResponse{Pods: describe(sandboxes, containers)}, nil
}

// ListImages implements pods.Server.
func (s *server) ListImages(ctx context.Context, _ *pods.ListImagesRequest) (*pods.ListImagesResponse, error) {
	found, err := s.c.cri.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, answer(err)
	}
	kept, err := s.c.keptNames(ctx)
	if err != nil {
		return nil, answer(err)
	}
	v, err := s.volume(ctx)
	if err != nil {
		return nil, err
	}
	r := &pods.ListImagesResponse{DiskFreeBytes: v.SizeBytes - v.UsedBytes}
	for _, i := range found.Images {
		slices.Sort(i.RepoTags)
		slices.Sort(i.RepoDigests)
		system, loaded := origin(i, kept)
		r.Images = append(r.Images, &pods.Image{Id: i.Id, Names: i.RepoTags, Digests: i.RepoDigests, SizeBytes: i.Size, System: system, Loaded: loaded})
	}
	slices.SortFunc(r.Images, func(a, b *pods.Image) int {
		return cmp.Or(slices.Compare(a.Names, b.Names), cmp.Compare(a.Id, b.Id))
	})
	return r, nil
}

// volume returns the one that images are on.
func (s *server) volume(ctx context.Context) (*storage.Mount, error) {
	all, err := s.storage.ListMounts(ctx, &storage.ListMountsRequest{})
	if err != nil {
		return nil, err
	}
	for _, m := range all.Mounts {
		if m.Volume == "ephemeral" {
			return m, nil
		}
	}
	return nil, status.Error(codes.Internal, "the machine has no volume for images")
}

// RemoveImage implements pods.Server.
func (s *server) RemoveImage(ctx context.Context, r *pods.RemoveImageRequest) (*pods.RemoveImageResponse, error) {
	name, err := imageKey(r.Name)
	if err != nil {
		return nil, answer(err)
	}
	image, err := s.c.picture(ctx, name)
	switch {
	case err != nil:
		return nil, answer(err)
	case image == nil:
		return nil, status.Errorf(codes.NotFound, "there is no image %s", name)
	}
	kept, err := s.c.keptNames(ctx)
	if err != nil {
		return nil, answer(err)
	}
	if system, _ := origin(image, kept); system {
		return nil, status.Errorf(codes.FailedPrecondition, "%s belongs to the system: no pod starts without it", name)
	}
	sandboxes, containers, err := s.c.both(ctx)
	if err != nil {
		return nil, answer(err)
	}
	if pod := user(image, sandboxes, containers); pod != "" {
		return nil, status.Errorf(codes.FailedPrecondition, "%s is in use by %s", name, pod)
	}
	if _, err := s.c.cri.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: image.Id}}); err != nil {
		return nil, answer(err)
	}
	s.log.Info("image removed", "name", name, "id", image.Id)
	slices.Sort(image.RepoTags)
	return &pods.RemoveImageResponse{Names: image.RepoTags}, nil
}
