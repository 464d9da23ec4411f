package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
)

// Tests in this file and the next run the real PID 1 in namespaces on this
// Linux, with a root directory of its own and real daemons.

// stageEnv names the root directory in the process that prepares it and becomes
// PID 1.
const stageEnv = "DACTYL_TEST_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(stageEnv); root != "" {
		err := becomeInit(root)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

// built are programs that tests have built, each once.
var built struct {
	mu  sync.Mutex
	dir string
	all map[string]string // path by package and flags
}

// becomeInit makes root the root and starts /init there.
func becomeInit(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	dev := filepath.Join(root, "dev")
	if err := unix.Mount("tmpfs", dev, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for name, number := range map[string]uint64{"null": unix.Mkdev(1, 3), "zero": unix.Mkdev(1, 5), "urandom": unix.Mkdev(1, 9), "full": unix.Mkdev(1, 7)} {
		if err := unix.Mknod(filepath.Join(dev, name), unix.S_IFCHR|0o666, int(number)); err != nil {
			return err
		}
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Exec("/init", []string{"/init"}, []string{"DACTYL_NATIVE=1"})
}

// world is a running PID 1.
type world struct {
	t    testing.TB
	root string // directory of the image
	pid  int    // as this Linux sees it
	gone chan struct{}
}

// startWorld boots system, whose daemons are all testdata/daemon, or
// testdata/foreign.
func startWorld(t testing.TB, system *abi.System) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	w := &world{t: t, root: t.TempDir(), gone: make(chan struct{})}
	w.stage(system)
	w.start()
	return w
}

// stage fills the image's directory.
func (w *world) stage(system *abi.System) {
	t := w.t
	t.Helper()
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "boot", "state", "var", "etc/dactyl", "lib/dactyl"} {
		if err := os.MkdirAll(filepath.Join(w.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(system)
	if err != nil {
		t.Fatal(err)
	}
	w.write("etc/dactyl/system.json", data)
	w.write("etc/os-release", []byte("ID=dactyl\n"))
	build(t, filepath.Join(w.root, "init"), ".", "-tags=test")
	build(t, filepath.Join(w.root, "lib/dactyl/daemon"), "./testdata/daemon")
	for _, d := range system.Daemons {
		if d.Foreign != nil {
			w.buildForeign()
			continue
		}
		if err := os.Link(filepath.Join(w.root, "lib/dactyl/daemon"), filepath.Join(w.root, d.Exec)); err != nil {
			t.Fatal(err)
		}
	}
}

// buildForeign builds the program of all that others wrote, once.
func (w *world) buildForeign() {
	out := filepath.Join(w.root, foreignProgram)
	if _, err := os.Stat(out); err == nil {
		return
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		w.t.Fatal(err)
	}
	build(w.t, out, "./testdata/foreign")
}

func (w *world) write(name string, data []byte) {
	if err := os.WriteFile(filepath.Join(w.root, name), data, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// build puts a program at out.
func build(t testing.TB, out, pkg string, flags ...string) {
	t.Helper()
	program := buildOnce(t, pkg, flags...)
	data, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(out, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func buildOnce(t testing.TB, pkg string, flags ...string) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	key := fmt.Sprint(pkg, flags)
	if path := built.all[key]; path != "" {
		return path
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "dactyl-init-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.all = dir, map[string]string{}
	}
	path := filepath.Join(built.dir, fmt.Sprint(len(built.all)))
	c := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), pkg)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
	built.all[key] = path
	return path
}

func (w *world) start() {
	c := exec.Command("/proc/self/exe")
	c.Env = []string{stageEnv + "=" + w.root}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP,
		Pdeathsig:  unix.SIGKILL,
	}
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.pid = c.Process.Pid
	go func() { c.Wait(); close(w.gone) }()
	w.t.Cleanup(func() {
		sweep := w.sweeper()
		unix.Kill(w.pid, unix.SIGKILL)
		<-w.gone
		sweep()
		if w.t.Failed() {
			w.t.Logf("PID 1 said:\n%s", &said)
		}
	})
}

// sweeper returns what removes PID 1's cgroups when it is gone: they would stay.
func (w *world) sweeper() func() {
	tree, err := os.Open(w.path(cgroupRoot))
	if err != nil {
		return func() {} // it has gone by itself, and removed them
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", w.pid), &st); err != nil {
		w.t.Error(err)
	}
	return func() {
		defer tree.Close()
		for _, name := range []string{"dactyl", "domains"} {
			dir := fmt.Sprintf("/proc/self/fd/%d/%s.%d", tree.Fd(), name, st.Ino)
			if err := removeTree(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				w.t.Error(err)
			}
		}
	}
}

// path is where PID 1's /name is seen from here.
func (w *world) path(name string) string { return fmt.Sprintf("/proc/%d/root%s", w.pid, name) }

func (w *world) socket(service string) string {
	return w.path(filepath.Join(abi.SocketDir, "tester", service))
}

// peer calls PID 1's own services in the name of the daemon tester.
func (w *world) peer(service string) *ipc.Peer {
	w.eventually("PID 1 serves "+service, func() bool {
		c, err := net.Dial("unix", w.socket(service))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	p := ipc.NewPeer(service, w.socket(service))
	w.t.Cleanup(p.Close)
	return p
}

// tell sends a command to a daemon and returns its answer.
func (w *world) tell(service, command string) (string, error) {
	return converse(w.socket(service), command)
}

func converse(socket, command string) (string, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintln(c, command)
	return bufio.NewReader(c).ReadString('\n')
}

// refused waits until callers of a daemon are refused: a process that is being
// made has all of PID 1's sockets until it executes its program.
func (w *world) refused(service string) {
	w.t.Helper()
	w.eventually("callers of "+service+" are refused", func() bool {
		c, err := net.Dial("unix", w.socket(service))
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if f() {
			return
		}
		select {
		case <-w.gone:
			w.t.Fatalf("PID 1 is gone; it should be that %s", what)
		default:
		}
	}
	w.t.Fatalf("not within 10 s: %s", what)
}

// testSystem is a small machine: tester is who this test speaks as.
func testSystem(daemons ...abi.Daemon) *abi.System {
	methods := func(service string, names ...string) abi.Caller {
		return abi.Caller{Name: "tester", Service: strings.ToLower(service), Full: "dactyl." + strings.ToLower(service) + ".v1." + service, Methods: names}
	}
	s := &abi.System{Version: "0.0.1", Mode: abi.Test, Init: abi.Provider{
		Services: []string{"machine", "dev", "probe"},
		Callers: []abi.Caller{
			methods("Dev", "ReplaceDaemon", "RestoreDaemon"),
			methods("Machine", "GetGraph", "GetVersion", "ListDaemons", "Reboot", "RestartDaemon", "SetAside", "SetHostname", "StartProgram", "StopProgram"),
			methods("Probe", "AbuseSockets", "ListProcesses", "ReadFile", "Signal"),
		},
	}}
	daemons = append(daemons, abi.Daemon{Name: "tester", Tier: 9})
	for i, d := range daemons {
		d.Exec = cmp.Or(d.Exec, filepath.Join(abi.DaemonDir, d.Name))
		d.Limits.MemoryBytes, d.Limits.PIDs = 64<<20, 32
		if d.Domain == "" {
			d.User = uint32(60001 + i)
			d.UserNS = len(d.Capabilities)+len(d.Mount) == 0
		}
		d.Tier = cmp.Or(d.Tier, 1)
		if d.Foreign == nil && d.Name != "tester" {
			d.Provider = abi.Provider{Services: []string{d.Name}, Callers: []abi.Caller{{Name: "tester", Service: d.Name, Full: d.Name}}}
		}
		s.Daemons = append(s.Daemons, d)
	}
	return s
}
