//go:build test

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	pb "github.com/dactyl-os/dactyl/ipc/probe"
)

func registerProbe(r ipc.Registrar, m *machine) { pb.Register(r, &probeServer{m: m}) }

// probeServer serves dactyl.probe.v1.Probe.
type probeServer struct{ m *machine }

// maxRead is the largest file that ReadFile returns.
const maxRead = 1 << 20

// maxRest keeps a call shorter than the deadline that it may have.
const maxRest = 30 * time.Second

// ListProcesses implements pb.Server.
func (s *probeServer) ListProcesses(ctx context.Context, request *pb.ListProcessesRequest) (*pb.ListProcessesResponse, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(min(time.Duration(request.RestMs)*time.Millisecond, maxRest)):
	}
	var owners map[string]string
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	shares := make([]uint64, len(dirs))
	for i, dir := range dirs { // PID 1 is the first
		shares[i] = procDir(dir).pss()
	}
	if err := s.m.ask(ctx, func() { owners = s.m.owners() }); err != nil {
		return nil, err
	}
	answer := &pb.ListProcessesResponse{}
	for i, dir := range dirs {
		if p := readProcess(procDir(dir)); p != nil {
			p.PssBytes = shares[i]
			p.Daemon = owners[filepath.Base(p.Cgroup)]
			if p.Pid == 1 {
				p.Daemon = "init"
			}
			answer.Processes = append(answer.Processes, p)
		}
	}
	slices.SortFunc(answer.Processes, func(a, b *pb.Process) int { return int(a.Pid - b.Pid) })
	return answer, nil
}

// owners returns the names of the daemons' cgroups and whose they are.
func (m *machine) owners() map[string]string {
	all := map[string]string{}
	for _, d := range m.daemons {
		for id := range d.children {
			all[filepath.Base(m.launcher.groups.path(d.Daemon, id))] = d.Name
		}
	}
	return all
}

// readProcess returns nil for the kernel's threads, which have no executable,
// and for a process that has gone.
func readProcess(dir procDir) *pb.Process {
	executable, err := os.Readlink(string(dir) + "/exe")
	if err != nil {
		return nil
	}
	st := dir.status()
	p := &pb.Process{
		Pid: number(filepath.Base(string(dir))), Parent: number(st["PPid"]), Name: st["Name"],
		Uids: st.numbers("Uid"), Gids: st.numbers("Gid"), Groups: st.numbers("Groups"),
		Capabilities: map[string]uint64{}, Namespaces: dir.namespaces(),
		Seccomp: number(st["Seccomp"]), SeccompFilters: number(st["Seccomp_filters"]), NoNewPrivs: st["NoNewPrivs"] == "1",
		Executable: executable,
	}
	for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		p.Capabilities[key] = uint64(st.capabilities(key))
	}
	for line := range strings.Lines(dir.read("mountinfo")) {
		p.Mounts = append(p.Mounts, strings.TrimSpace(line))
	}
	for line := range strings.Lines(dir.read("cgroup")) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			p.Cgroup = path
		}
	}
	fds, _ := os.ReadDir(string(dir) + "/fd")
	for _, fd := range fds {
		to, _ := os.Readlink(string(dir) + "/fd/" + fd.Name())
		p.Descriptors = append(p.Descriptors, fd.Name()+" "+to)
	}
	return p
}

// numbers reads a list such as that of Uid.
func (s statusFile) numbers(key string) []uint32 {
	var all []uint32
	for field := range strings.FieldsSeq(s[key]) {
		n, _ := strconv.ParseUint(field, 10, 32)
		all = append(all, uint32(n))
	}
	return all
}

func number(text string) int32 {
	n, _ := strconv.ParseInt(text, 10, 32)
	return int32(n)
}

// Signal implements pb.Server.
func (s *probeServer) Signal(ctx context.Context, r *pb.SignalRequest) (*pb.SignalResponse, error) {
	pid := 0
	err := s.m.ask(ctx, func() {
		u := s.m.fleet.unit(daemonName(r.Daemon))
		if u == nil {
			return
		}
		if c := s.m.daemons[u.name].children[u.main.id]; c != nil && c.pid != 0 {
			pid = c.pid
			unix.Kill(pid, unix.Signal(r.Signal))
		}
	})
	if err != nil {
		return nil, err
	}
	if pid == 0 {
		return nil, status.Errorf(codes.NotFound, "no process of a daemon %q", r.Daemon)
	}
	return &pb.SignalResponse{Pid: int32(pid)}, nil
}

// ReadFile implements pb.Server.
func (s *probeServer) ReadFile(_ context.Context, r *pb.ReadFileRequest) (*pb.ReadFileResponse, error) {
	// A FIFO or a device must not keep the handler for ever.
	f, err := os.OpenFile(r.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileStatus(err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxRead))
	if err != nil {
		return nil, fileStatus(err)
	}
	return &pb.ReadFileResponse{Content: content}, nil
}

func fileStatus(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return status.Error(codes.NotFound, err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}

// FillDisk implements pb.Server.
func (s *probeServer) FillDisk(ctx context.Context, r *pb.FillDiskRequest) (*pb.FillDiskResponse, error) {
	if r.SizeBytes == 0 {
		if err := os.Remove(r.Path); err != nil {
			return nil, fileStatus(err)
		}
		return &pb.FillDiskResponse{}, nil
	}
	f, err := os.OpenFile(r.Path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fileStatus(err)
	}
	defer f.Close()
	answer := &pb.FillDiskResponse{WrittenBytes: allocate(f, r.SizeBytes)}
	if _, err := f.Seek(int64(answer.WrittenBytes), io.SeekStart); err != nil {
		return nil, fileStatus(err)
	}
	chunk := make([]byte, 1<<20)
	for answer.WrittenBytes < r.SizeBytes && err == nil && ctx.Err() == nil {
		n := 0
		n, err = f.Write(chunk[:min(uint64(len(chunk)), r.SizeBytes-answer.WrittenBytes)])
		answer.WrittenBytes += uint64(n)
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		answer.Error = err.Error()
	}
	return answer, nil
}

// allocate gives a file most of its blocks without writing them, which on an emulated
// disk takes minutes, and returns how many bytes.
func allocate(f *os.File, size uint64) uint64 {
	done := uint64(0)
	for piece := uint64(1 << 30); piece >= 1<<20; {
		n := min(piece, size-done)
		if n > 0 && unix.Fallocate(int(f.Fd()), 0, int64(done), int64(n)) == nil {
			done += n
		} else {
			piece /= 2
		}
	}
	return done
}

const (
	// maxAbuse bounds one call of AbuseSockets.
	maxAbuse = 1024
	// abuseTimeout is how long one connection may take: PID 1 may well stop
	// reading from it.
	abuseTimeout = time.Second
)

// AbuseSockets implements pb.Server.
func (s *probeServer) AbuseSockets(_ context.Context, r *pb.AbuseSocketsRequest) (*pb.AbuseSocketsResponse, error) {
	if r.Connections > maxAbuse || r.Bytes > maxRead {
		return nil, status.Errorf(codes.InvalidArgument, "at most %d connections of %d bytes", maxAbuse, maxRead)
	}
	answer := &pb.AbuseSocketsResponse{}
	random := rand.New(rand.NewPCG(r.Seed, 0))
	for _, c := range s.m.system.Init.Callers {
		path := (&door{caller: c}).path()
		if err := abuse(path, c.Full, r, random); err != nil {
			return nil, status.Errorf(codes.Unavailable, "%s: %v", path, err)
		}
		answer.Sockets = append(answer.Sockets, path)
	}
	return answer, nil
}

// abuse opens connections, each with bad manners of its own, and keeps all until
// PID 1 has had its time with them.
func abuse(path, service string, r *pb.AbuseSocketsRequest, random *rand.Rand) error {
	var writing sync.WaitGroup
	defer writing.Wait()
	for i := range int(r.Connections) {
		c, err := net.Dial("unix", path)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		bytes := manners[i%len(manners)](int(r.Bytes), service, random)
		writing.Go(func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(abuseTimeout))
			// What PID 1 makes of it is its own affair: it must live.
			_, _ = c.Write(bytes)
			_, _ = c.Read(make([]byte, 1))
		})
	}
	return nil
}

// manners are ways to be a bad client of ttrpc.
var manners = []func(size int, service string, random *rand.Rand) []byte{
	func(size int, _ string, random *rand.Rand) []byte { return noise(size, random) },
	// A header that promises 4 GiB.
	func(int, string, *rand.Rand) []byte { return frame(1, 1, 0xFFFFFFFF, nil) },
	// Half a frame.
	func(int, string, *rand.Rand) []byte { return frame(1, 1, 1<<20, nil)[:7] },
	// Whole frames with noise for a request.
	func(size int, _ string, random *rand.Rand) []byte {
		b := noise(min(size, 4096), random)
		return frame(1, 1, uint32(len(b)), b)
	},
	// Frames of unknown types, and data for streams that were never opened.
	func(int, string, *rand.Rand) []byte {
		return slices.Concat(frame(3, 9, 3, []byte("abc")), frame(5, 3, 3, []byte("abc")), frame(2, 1, 0, nil))
	},
	// Many requests, the answers to which are never read.
	func(size int, service string, _ *rand.Rand) []byte {
		var all []byte
		request := slices.Concat([]byte{0x0a, byte(len(service))}, []byte(service), []byte("\x12\x0bListDaemons"))
		for id := uint32(1); len(all) < size; id += 2 {
			all = append(all, frame(id, 1, uint32(len(request)), request)...)
		}
		return all
	},
}

func noise(size int, random *rand.Rand) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// frame is a ttrpc frame; length need not be the truth.
func frame(stream uint32, kind byte, length uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, length)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(append(b, kind, 0), payload...)
}
