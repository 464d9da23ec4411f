//go:build dev || test

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	pb "github.com/dactyl-os/dactyl/ipc/dev"
)

const (
	// replacedDir is a file system of its own: the only one that can be written
	// to and executed from, and none of production's.
	replacedDir     = "/run/replaced"
	replacedOptions = "mode=0700,size=384m"
	// maxBinary is far above any daemon's.
	maxBinary = 128 << 20
)

func registerDev(r ipc.Registrar, m *machine) { pb.Register(r, &devServer{m, &replacements}) }

// replacements is one for all callers, as is the directory.
var replacements replacing

type replacing struct {
	busy sync.Mutex // held by the one change at a time; guards last
	last int        // number of the last binary
}

// devServer serves dactyl.dev.v1.Dev.
type devServer struct {
	m *machine
	*replacing
}

// ReplaceDaemon implements pb.Server.
func (s *devServer) ReplaceDaemon(ctx context.Context, in ipc.Receiver[*pb.ReplaceDaemonRequest]) (*pb.ReplaceDaemonResponse, error) {
	first, err := in.Recv()
	if err != nil {
		return nil, err
	}
	if err := s.begin(first.Name); err != nil {
		return nil, err
	}
	defer s.busy.Unlock()
	s.last++
	path := filepath.Join(replacedDir, fmt.Sprintf("%s.%d", first.Name, s.last))
	if err := receiveBinary(path, first, in); err != nil {
		os.Remove(path)
		return nil, err
	}
	pid, err := s.put(ctx, first.Name, path)
	if err != nil {
		return nil, err
	}
	return &pb.ReplaceDaemonResponse{Pid: int32(pid)}, nil
}

// RestoreDaemon implements pb.Server.
func (s *devServer) RestoreDaemon(ctx context.Context, r *pb.RestoreDaemonRequest) (*pb.RestoreDaemonResponse, error) {
	if err := s.begin(r.Name); err != nil {
		return nil, err
	}
	defer s.busy.Unlock()
	pid, err := s.put(ctx, r.Name, binaryOf(s.m.daemons[daemonName(r.Name)].Daemon))
	if err != nil {
		return nil, err
	}
	return &pb.RestoreDaemonResponse{Pid: int32(pid)}, nil
}

// begin refuses names that are no daemon's, before they become a path, and a
// second change at the same time. Who gets nil unlocks busy.
func (s *devServer) begin(name string) error {
	if s.m.daemons[daemonName(name)] == nil { // never changes after newMachine
		return status.Errorf(codes.NotFound, "no daemon %q", name)
	}
	if !s.busy.TryLock() {
		return status.Error(codes.FailedPrecondition, "another daemon is being replaced")
	}
	return nil
}

// put has the daemon run a binary and removes those that it will not run again.
func (s *devServer) put(ctx context.Context, name, path string) (int, error) {
	pid, err := s.m.restart(ctx, name, func(*unit) string { return path })
	inUse := map[string]bool{}
	if askErr := s.m.ask(context.WithoutCancel(ctx), func() { inUse = s.m.binaries(name) }); askErr != nil {
		return pid, err
	}
	files, _ := filepath.Glob(filepath.Join(replacedDir, name+".*"))
	for _, file := range files {
		if !inUse[file] {
			os.Remove(file)
		}
	}
	return pid, err
}

// binaries returns what the daemon runs or would start.
func (m *machine) binaries(name string) map[string]bool {
	u := m.fleet.unit(daemonName(name))
	return map[string]bool{u.binary: true, u.main.binary: true, u.next.binary: true}
}

// receiveBinary writes the chunks to path and checks that they are what was
// announced.
func receiveBinary(path string, first *pb.ReplaceDaemonRequest, in ipc.Receiver[*pb.ReplaceDaemonRequest]) error {
	if err := mountReplaced(); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o500)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	defer f.Close()
	sum := sha256.New()
	if err := copyChunks(f, sum, first, in); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), first.Sha256) {
		return status.Error(codes.InvalidArgument, "the bytes do not match the digest")
	}
	if err := unix.Fchmod(int(f.Fd()), 0o555); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

func copyChunks(f *os.File, sum hash.Hash, message *pb.ReplaceDaemonRequest, in ipc.Receiver[*pb.ReplaceDaemonRequest]) error {
	var begin []byte
	size := 0
	for {
		if size += len(message.Chunk); size > maxBinary {
			return status.Errorf(codes.InvalidArgument, "more than %d bytes", maxBinary)
		}
		if len(begin) < len(elfMagic) {
			begin = append(begin, message.Chunk[:min(len(message.Chunk), len(elfMagic))]...)
		}
		sum.Write(message.Chunk)
		if _, err := f.Write(message.Chunk); err != nil {
			return status.Error(codes.ResourceExhausted, err.Error())
		}
		var err error
		if message, err = in.Recv(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	if !strings.HasPrefix(string(begin), elfMagic) {
		return status.Error(codes.InvalidArgument, "not an ELF program")
	}
	return nil
}

const elfMagic = "\x7fELF"

// mountReplaced makes the place for replaced binaries, once.
func mountReplaced() error {
	var st unix.Statfs_t
	if unix.Statfs(replacedDir, &st) == nil && st.Flags&unix.ST_NOEXEC == 0 {
		return nil
	}
	if err := makeDir(replacedDir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", replacedDir, "tmpfs", nosuid|nodev, replacedOptions); err != nil {
		return fmt.Errorf("mount %s: %w", replacedDir, err)
	}
	return nil
}
