package main

import (
	"context"
	"errors"
	"testing"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fakeKernel answers what it is told to.
type fakeKernel struct {
	kernel
	err error
}

func (f fakeKernel) usage(v volume, on string) (usage, error) {
	switch {
	case v == root:
		return usage{source: "/dev/dm-0", filesystem: "squashfs", size: 100, used: 100, readOnly: true}, f.err
	case v == state:
		return usage{size: 64, used: 4, errors: 3}, f.err
	}
	return usage{size: 1000, used: 10}, f.err
}

func (f fakeKernel) disks() ([]*storage.Disk, error) {
	return []*storage.Disk{{Name: "sda", System: true}}, f.err
}

func (f fakeKernel) partitions() ([]*storage.Partition, error) {
	return []*storage.Partition{{Name: "sda1", Disk: "sda"}}, f.err
}

func connect(t *testing.T, k kernel) storage.Client {
	seen := observation{mounted: map[volume]mounted{state: {on: "sda4"}, ephemeral: {on: inMemory}}}
	notes := map[volume]string{boot: "not mounted: no medium", ephemeral: "in memory: no disk", state: "made by hand"}
	methods := map[string][]string{storage.Service: {"ListDisks", "ListPartitions", "ListMounts"}}
	return storage.NewClient(ipctest.Pair(t, methods, func(r ipc.Registrar) { storage.Register(r, newServer(k, seen, notes)) }))
}

// What is mounted, what stands in for it, and what is not there at all.
func TestListMounts(t *testing.T) {
	got, err := connect(t, fakeKernel{}).ListMounts(context.Background(), &storage.ListMountsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := []storage.Mount{
		{Volume: "root", Source: "/dev/dm-0", Target: "/", Filesystem: "squashfs", ReadOnly: true, SizeBytes: 100, UsedBytes: 100},
		{Volume: "boot", Target: "/boot", Note: "not mounted: no medium"},
		{Volume: "state", Source: "/dev/sda4", Target: "/state", Filesystem: "ext4", SizeBytes: 64, UsedBytes: 4, Note: "made by hand; 3 errors found in the filesystem"},
		{Volume: "ephemeral", Source: "tmpfs", Target: "/var", Filesystem: "tmpfs", SizeBytes: 1000, UsedBytes: 10, Note: "in memory: no disk"},
	}
	if len(got.Mounts) != len(want) {
		t.Fatalf("%d mounts, want %d", len(got.Mounts), len(want))
	}
	for i := range want {
		if got.Mounts[i].String() != want[i].String() {
			t.Errorf("mount %v\nwant  %v", got.Mounts[i], &want[i])
		}
	}
}

func TestListDisksAndPartitions(t *testing.T) {
	c := connect(t, fakeKernel{})
	d, err := c.ListDisks(context.Background(), &storage.ListDisksRequest{})
	if err != nil || len(d.Disks) != 1 || !d.Disks[0].System {
		t.Errorf("disks %v, %v", d, err)
	}
	p, err := c.ListPartitions(context.Background(), &storage.ListPartitionsRequest{})
	if err != nil || len(p.Partitions) != 1 || p.Partitions[0].Disk != "sda" {
		t.Errorf("partitions %v, %v", p, err)
	}
}

func TestKernelErrors(t *testing.T) {
	c := connect(t, fakeKernel{err: errors.New("no sysfs")})
	_, disks := c.ListDisks(context.Background(), &storage.ListDisksRequest{})
	_, partitions := c.ListPartitions(context.Background(), &storage.ListPartitionsRequest{})
	_, mounts := c.ListMounts(context.Background(), &storage.ListMountsRequest{})
	for _, err := range []error{disks, partitions, mounts} {
		if status.Code(err) != codes.Internal {
			t.Errorf("error %v, want Internal", err)
		}
	}
}
