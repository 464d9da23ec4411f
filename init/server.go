package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	pb "github.com/dactyl-os/dactyl/ipc/machine"
)

// limits bound what a caller of one of PID 1's services has of its memory, which no cgroup
// limits. A daemon keeps one connection, a second one while it is replaced, and one more for each stream. A call for each daemon
// may wait at the same time for its restart or start. Requests are small.
var limits = ipc.Limits{MessageBytes: 64 << 10, Calls: 32, Connections: 8}

// uploadLimits are those of services that only development and test images have: they take files in
// pieces of 1 MiB.
var uploadLimits = ipc.Limits{MessageBytes: 1<<20 + 4<<10, Calls: 8, Connections: 8}

// serve binds PID 1's own sockets, one per caller and service, and answers on
// them. Each has its own server, so that no caller is in another's way.
func (m *machine) serve() error {
	machine := &machineServer{m: m}
	for _, c := range m.system.Init.Callers {
		door := &door{caller: c, user: userOf(m.system, c.Name), fd: shutFD}
		if err := door.open(); err != nil {
			return err
		}
		l, err := door.listener()
		if err != nil {
			return err
		}
		server := ipc.NewServer(func(caller, method string) {
			m.log.warn("call refused caller=%s method=%q", caller, method)
		})
		server.Limit(uploadLimits)
		if c.Full == pb.Service {
			server.Limit(limits)
		}
		g := &guarded{Registrar: server, log: m.log}
		pb.Register(g, machine)
		registerDev(g, m)
		registerProbe(g, m)
		caller := ipc.Caller{Name: c.Name, Methods: map[string][]string{c.Full: c.Methods}}
		if err := server.Listen(l, caller, func(err error) { m.log.warn("%v", err) }); err != nil {
			return err
		}
	}
	return nil
}

// listener takes the open door's descriptor over.
func (d *door) listener() (net.Listener, error) {
	f := os.NewFile(uintptr(d.fd), d.path())
	defer f.Close()
	d.fd = shutFD
	return net.FileListener(f)
}

// answerGrace is how long an answer has to reach its caller before the daemons
// on its way are stopped.
const answerGrace = 200 * time.Millisecond

// machineServer serves dactyl.machine.v1.Machine.
type machineServer struct {
	m       *machine
	reading sync.Mutex // one whole ListDaemons at a time: each reads all over /proc
}

// GetVersion implements pb.Server.
func (s *machineServer) GetVersion(context.Context, *pb.GetVersionRequest) (*pb.Version, error) {
	var uname unix.Utsname
	unix.Uname(&uname)
	var up unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	bootID, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	cmdline, _ := os.ReadFile("/proc/cmdline")
	return &pb.Version{
		Version:  s.m.system.Version,
		Kernel:   unix.ByteSliceToString(uname.Release[:]),
		Mode:     string(s.m.system.Mode),
		BootId:   strings.TrimSpace(string(bootID)),
		UptimeMs: up.Nano() / int64(time.Millisecond),
		Hostname: unix.ByteSliceToString(uname.Nodename[:]),
		RootHash: rootHash(string(cmdline)),
		Ending:   s.m.ends.Load(),
	}, nil
}

// rootHash finds the digest in dm-mod.create="…,0 SECTORS verity VERSION DATA
// HASH BLOCKSIZE BLOCKSIZE BLOCKS START ALGORITHM DIGEST SALT".
func rootHash(cmdline string) string {
	_, table, _ := strings.Cut(cmdline, "dm-mod.create=")
	_, target, _ := strings.Cut(table, " verity ")
	const digest = 8
	if fields := strings.Fields(target); len(fields) > digest {
		return strings.Trim(fields[digest], `"`)
	}
	return ""
}

// ListDaemons implements pb.Server.
func (s *machineServer) ListDaemons(ctx context.Context, r *pb.ListDaemonsRequest) (*pb.ListDaemonsResponse, error) {
	if !r.Brief {
		s.reading.Lock()
		defer s.reading.Unlock()
	}
	var all []*pb.Daemon
	if err := s.m.ask(ctx, func() { all = s.m.describe() }); err != nil {
		return nil, err
	}
	if r.Brief {
		return &pb.ListDaemonsResponse{Daemons: all}, nil
	}
	for _, d := range all {
		if d.Pid != 0 {
			describeProcess(d)
		}
	}
	return &pb.ListDaemonsResponse{Daemons: all}, nil
}

// describe tells what PID 1 itself knows of each daemon.
func (m *machine) describe() []*pb.Daemon {
	var all []*pb.Daemon
	for i, d := range m.system.Daemons {
		u := m.fleet.units[i]
		p := &pb.Daemon{
			Name: d.Name, State: u.state, Reason: oneLine(u.reason), Tier: int32(d.Tier), Uid: d.User,
			Restarts:  uint32(max(0, u.started-1)),
			Replaced:  u.main.exists() && u.main.binary != binaryOf(d),
			OnRequest: d.OnRequest, Args: u.args, Domain: d.Domain, SetAside: m.launcher.dirs.asideOf(d.Name),
		}
		if c := m.daemons[u.name].children[u.main.id]; c != nil && c.pid != 0 {
			p.Pid, p.UptimeMs, p.Landlock = int32(c.pid), time.Since(c.since).Milliseconds(), int32(c.landlock)
		}
		all = append(all, p)
	}
	return all
}

// describeProcess adds what the kernel says of the process.
func describeProcess(d *pb.Daemon) {
	p := procDir(fmt.Sprintf("/proc/%d", d.Pid))
	st := p.status()
	d.Capabilities = st.capabilities("CapEff").names()
	d.Bounding = st.capabilities("CapBnd").names()
	d.ResidentBytes = st.kilobytes("VmRSS")
	d.MemoryBytes = p.pss()
	d.NoNewPrivs = st["NoNewPrivs"] == "1"
	d.Seccomp = "off"
	if st["Seccomp"] == "2" {
		d.Seccomp = "filter"
	}
	machines := procDir("/proc/self").namespaces()
	d.Namespaces = map[string]bool{}
	for name, id := range p.namespaces() {
		d.Namespaces[name] = id != machines[name]
	}
}

// GetGraph implements pb.Server.
func (s *machineServer) GetGraph(context.Context, *pb.GetGraphRequest) (*pb.Graph, error) {
	g := &pb.Graph{}
	for _, p := range providers(s.m.system) {
		for _, c := range p.Callers {
			g.Edges = append(g.Edges, &pb.Edge{Caller: c.Name, Callee: p.name, Service: c.Full, Methods: c.Methods})
		}
	}
	slices.SortFunc(g.Edges, func(a, b *pb.Edge) int {
		return strings.Compare(a.Caller+" "+a.Callee+" "+a.Service, b.Caller+" "+b.Callee+" "+b.Service)
	})
	return g, nil
}

// RestartDaemon implements pb.Server.
func (s *machineServer) RestartDaemon(ctx context.Context, r *pb.RestartDaemonRequest) (*pb.RestartDaemonResponse, error) {
	pid, err := s.m.restart(ctx, r.Name, func(u *unit) string { return u.binary })
	if err != nil {
		return nil, err
	}
	return &pb.RestartDaemonResponse{Pid: int32(pid)}, nil
}

const (
	// maxArgs and maxArgBytes bound what a caller can have PID 1 keep. They fit into limits.MessageBytes.
	maxArgs     = 64
	maxArgBytes = 32 << 10
)

// StartProgram implements pb.Server.
func (s *machineServer) StartProgram(ctx context.Context, r *pb.StartProgramRequest) (*pb.StartProgramResponse, error) {
	if err := checkArgs(r.Args); err != nil {
		return nil, err
	}
	pid, err := s.m.request(ctx, r.Name, func(*unit) event { return event{what: evRequest, args: r.Args} })
	if err != nil {
		return nil, err
	}
	return &pb.StartProgramResponse{Pid: int32(pid)}, nil
}

func checkArgs(args []string) error {
	size := 0
	for _, arg := range args {
		size += len(arg)
		if strings.ContainsRune(arg, 0) {
			return status.Errorf(codes.InvalidArgument, "argument %q has a NUL in it", arg)
		}
	}
	if len(args) > maxArgs || size > maxArgBytes {
		return status.Errorf(codes.InvalidArgument, "%d arguments of %d bytes: at most %d of %d", len(args), size, maxArgs, maxArgBytes)
	}
	return nil
}

// StopProgram implements pb.Server.
func (s *machineServer) StopProgram(ctx context.Context, r *pb.StopProgramRequest) (*pb.StopProgramResponse, error) {
	if _, err := s.m.request(ctx, r.Name, func(*unit) event { return event{what: evQuit} }); err != nil {
		return nil, err
	}
	return &pb.StopProgramResponse{}, nil
}

// SetAside implements pb.Server.
func (s *machineServer) SetAside(_ context.Context, r *pb.SetAsideRequest) (*pb.SetAsideResponse, error) {
	var owned []abi.Owned
	for _, d := range s.m.system.Daemons {
		for _, o := range d.Owned {
			if o.Owner == r.Name {
				owned = append(owned, o)
			}
		}
	}
	if len(owned) == 0 {
		return nil, status.Errorf(codes.NotFound, "%q has no directory that can be set aside", r.Name)
	}
	paths, err := s.m.launcher.dirs.request(owned)
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "%s: its directory was %v", r.Name, err)
	}
	return &pb.SetAsideResponse{Paths: paths}, nil
}

// restart has a daemon's process replaced by one of the binary that choose
// names, and waits for the outcome.
func (m *machine) restart(ctx context.Context, name string, choose func(*unit) string) (int, error) {
	return m.request(ctx, name, func(u *unit) event { return event{what: evRestart, binary: choose(u)} })
}

// request gives a daemon the event and waits for what it comes to.
func (m *machine) request(ctx context.Context, name string, what func(*unit) event) (int, error) {
	result := make(chan outcome, 1)
	found := false
	err := m.ask(ctx, func() {
		u := m.fleet.unit(daemonName(name))
		if found = u != nil; !found {
			return
		}
		m.requests++
		m.waiting[m.requests] = result
		e := what(u)
		e.request = m.requests
		m.handle(u.name, e)
	})
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, status.Errorf(codes.NotFound, "no daemon %q", name)
	}
	var o outcome
	ipc.Wait(ctx, func() {
		select {
		case o = <-result:
		case <-ctx.Done():
			err = status.FromContextError(ctx.Err()).Err()
		}
	})
	if err != nil {
		return 0, err
	}
	if o.code != codes.OK {
		return 0, status.Errorf(o.code, "%s: %s", name, oneLine(o.reason))
	}
	return o.pid, nil
}

// ask has f run by the goroutine that owns the machine.
func (m *machine) ask(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case m.jobs <- func() { f(); close(ran) }:
		<-ran
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// Reboot implements pb.Server.
func (s *machineServer) Reboot(context.Context, *pb.RebootRequest) (*pb.RebootResponse, error) {
	s.endSoon(reboot)
	return &pb.RebootResponse{}, nil
}

// Shutdown implements pb.Server.
func (s *machineServer) Shutdown(context.Context, *pb.ShutdownRequest) (*pb.ShutdownResponse, error) {
	s.endSoon(powerOff)
	return &pb.ShutdownResponse{}, nil
}

func (s *machineServer) endSoon(how ending) {
	time.AfterFunc(answerGrace, func() { s.m.jobs <- func() { s.m.end(how) } })
}

// hostLabel is one label of a host name by RFC 1123.
var hostLabel = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// maxHostname is the kernel's.
const maxHostname = 64

func isHostname(name string) bool {
	if name == "" || len(name) > maxHostname {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !hostLabel.MatchString(label) {
			return false
		}
	}
	return true
}

// SetHostname implements pb.Server.
func (s *machineServer) SetHostname(_ context.Context, r *pb.SetHostnameRequest) (*pb.SetHostnameResponse, error) {
	if !isHostname(r.Hostname) {
		return nil, status.Errorf(codes.InvalidArgument, "%q is not a host name of RFC 1123 and at most %d bytes", r.Hostname, maxHostname)
	}
	if err := unix.Sethostname([]byte(r.Hostname)); err != nil {
		return nil, status.Errorf(codes.Internal, "sethostname %s: %v", r.Hostname, err)
	}
	return &pb.SetHostnameResponse{}, nil
}
