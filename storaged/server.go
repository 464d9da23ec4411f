package main

import (
	"context"
	"fmt"

	"github.com/dactyl-os/dactyl/ipc/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// server answers ipc/storage. What is mounted does not change once setup is over;
// the rest is read when it is asked for, so it needs no lock.
type server struct {
	kernel  kernel
	mounted map[volume]mounted
	notes   map[volume]string
}

func newServer(k kernel, o observation, notes map[volume]string) *server {
	return &server{k, o.mounted, notes}
}

func (s *server) ListDisks(context.Context, *storage.ListDisksRequest) (*storage.ListDisksResponse, error) {
	list, err := s.kernel.disks()
	if err != nil {
		return nil, status.Errorf(codes.Internal, "list disks: %v", err)
	}
	return &storage.ListDisksResponse{Disks: list}, nil
}

func (s *server) ListPartitions(context.Context, *storage.ListPartitionsRequest) (*storage.ListPartitionsResponse, error) {
	list, err := s.kernel.partitions()
	if err != nil {
		return nil, status.Errorf(codes.Internal, "list partitions: %v", err)
	}
	return &storage.ListPartitionsResponse{Partitions: list}, nil
}

func (s *server) ListMounts(context.Context, *storage.ListMountsRequest) (*storage.ListMountsResponse, error) {
	u, err := s.kernel.usage(root, "")
	if err != nil {
		return nil, status.Errorf(codes.Internal, "root: %v", err)
	}
	list := []*storage.Mount{mountOf(string(root), u.source, "/", u.filesystem, u)}
	for _, spec := range volumes {
		m, err := s.volumeMount(spec)
		if err != nil {
			return nil, status.Errorf(codes.Internal, "%s: %v", spec.volume, err)
		}
		list = append(list, m)
	}
	return &storage.ListMountsResponse{Mounts: list}, nil
}

// volumeMount lists a volume that is not mounted too: its note says why.
func (s *server) volumeMount(spec volumeSpec) (*storage.Mount, error) {
	m := &storage.Mount{Volume: string(spec.volume), Target: spec.target}
	if on := s.mounted[spec.volume].on; on != "" {
		u, err := s.kernel.usage(spec.volume, on)
		if err != nil {
			return nil, err
		}
		source, filesystem := "/dev/"+on, spec.filesystem
		if on == inMemory {
			source, filesystem = "tmpfs", "tmpfs"
		}
		m = mountOf(m.Volume, source, m.Target, filesystem, u)
	}
	m.Note = join(s.notes[spec.volume], m.Note)
	return m, nil
}

func mountOf(volume, source, target, filesystem string, u usage) *storage.Mount {
	m := &storage.Mount{
		Volume: volume, Source: source, Target: target, Filesystem: filesystem,
		ReadOnly: u.readOnly, SizeBytes: u.size, UsedBytes: u.used,
	}
	if u.errors > 0 {
		m.Note = fmt.Sprintf("%d errors found in the filesystem", u.errors)
	}
	return m
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}
