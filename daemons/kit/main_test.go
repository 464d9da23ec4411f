package kit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/kube"
)

// childPath is the program in testdata/child, built as daemons are: cgo would
// bring a C library with other ways to start threads.
var childPath string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kit")
	if err != nil {
		panic(err)
	}
	childPath = filepath.Join(dir, "child")
	build := exec.Command("go", "build", "-o", childPath, "./testdata/child")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// child is a daemon under test.
type child struct {
	*exec.Cmd
	notify *bufio.Reader
	log    *bufio.Scanner
	peer   *ipc.Peer
	kept   net.Listener // PID 1's copy of the socket
}

func start(t testing.TB, name string, change ...func(*abi.Spec)) *child {
	t.Helper()
	c := prepare(t, name, change...)
	c.begin(t)
	return c
}

func prepare(t testing.TB, name string, change ...func(*abi.Spec)) *child {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	kept, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := kept.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	told := abi.Spec{
		Mode: abi.Test,
		Daemon: abi.Daemon{Name: name, Provider: abi.Provider{Callers: []abi.Caller{
			{Name: "tester", Service: "kube", Full: kube.Service, Methods: []string{"GetStatus"}},
		}}},
		Descriptors: []abi.Descriptor{{Kind: abi.IPCSocket, Name: "tester", Service: "kube"}},
	}
	for _, f := range change {
		f(&told)
	}
	spec, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	notifyR, notifyW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	logR, logW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: exec.Command(childPath), notify: bufio.NewReader(notifyR), log: bufio.NewScanner(logR), peer: ipc.NewPeer("kube", path), kept: kept}
	c.Env = []string{"KIT_CHILD=" + name, abi.SpecEnv + "=" + string(spec)}
	c.ExtraFiles = []*os.File{notifyW, socket}
	c.Stderr = logW
	t.Cleanup(func() {
		c.peer.Close()
		kept.Close()
		notifyR.Close()
		logR.Close()
	})
	return c
}

// begin starts the process, which ends with the test or after a while.
func (c *child) begin(t testing.TB) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range append(c.ExtraFiles, c.Stderr.(*os.File)) {
		f.Close()
	}
	limit := time.AfterFunc(30*time.Second, func() { c.Process.Kill() })
	t.Cleanup(func() {
		limit.Stop()
		c.Process.Kill()
		c.Wait()
	})
}

// line returns the next line of the log.
func (c *child) line(t *testing.T) string {
	t.Helper()
	if !c.log.Scan() {
		t.Fatal("the log ended")
	}
	t.Log(c.log.Text())
	return c.log.Text()
}

func (c *child) waitLine(t *testing.T, want string) {
	t.Helper()
	for !strings.Contains(c.line(t), want) {
	}
}

func (c *child) ready(t testing.TB) {
	t.Helper()
	line, err := c.notify.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "landlock=") || !strings.HasSuffix(line, " seccomp=1\n") {
		t.Fatalf("ready line %q, %v", line, err)
	}
}

func (c *child) exit(t *testing.T, want int) {
	t.Helper()
	for c.log.Scan() {
		t.Log(c.log.Text())
	}
	c.Wait()
	if got := c.ProcessState.ExitCode(); got != want {
		t.Errorf("exit %d, want %d", got, want)
	}
}

func TestServesAndAnswersBeforeItEnds(t *testing.T) {
	c := start(t, "serves")
	c.ready(t)
	answer := make(chan error, 1)
	go func() {
		got, err := kube.NewClient(c.peer).GetStatus(t.Context(), &kube.GetStatusRequest{})
		if err == nil && got.Message != "served" {
			err = errors.New(got.Message)
		}
		answer <- err
	}()
	c.waitLine(t, "asked")
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.waitLine(t, "INFO stopping")
	if err := <-answer; err != nil {
		t.Errorf("the call that was in flight: %v", err)
	}
	c.exit(t, abi.ExitDone)
}

func TestGivesSignsOfLife(t *testing.T) {
	c := start(t, "serves")
	c.ready(t)
	if line, err := c.notify.ReadString('\n'); line != "\n" || err != nil {
		t.Errorf("%q, %v; want an empty line", line, err)
	}
	c.waitLine(t, "alive") // what OnBeat was given was asked before
}

// What a call has used is given back long before the runtime would collect by itself.
func TestGivesBackAfterACall(t *testing.T) {
	c := start(t, "wastes")
	c.ready(t)
	for range 2 { // by then it is not starting any more
		if _, err := c.notify.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	before := c.anonymous(t)
	if _, err := kube.NewClient(c.peer).GetStatus(t.Context(), &kube.GetStatusRequest{}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(15 * time.Second)
	for c.anonymous(t) > before+wasted/2 {
		if time.Now().After(deadline) {
			t.Fatalf("it holds %d kB of its own, and held %d before the call", c.anonymous(t)>>10, before>>10)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// wasted is what the call to "wastes" uses, in bytes.
const wasted = 16 << 20

// anonymous returns how much memory the process has that is not a file's, in bytes.
func (c *child) anonymous(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	var kilobytes int
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		t.Fatalf("%v in\n%s", err, status)
	}
	return kilobytes << 10
}

func TestSealedThreadsAreRefused(t *testing.T) {
	c := start(t, "abuses")
	c.ready(t)
	for _, what := range []string{"execve", "fork", "socket", "ptrace", "mprotect", "kill", "mount", "unshare"} {
		for {
			line := c.line(t)
			if !strings.Contains(line, "tried") {
				continue
			}
			if want := fmt.Sprintf("what=%s eperm=true", what); !strings.Contains(line, want) {
				t.Errorf("%q, want %s", line, want)
			}
			break
		}
	}
	c.waitLine(t, "all tried")
	c.exit(t, abi.ExitTemporary)
}

// A program that setup starts has none of the daemon's descriptors: it could report
// for it, or serve its socket. Once sealed, the daemon starts nothing, not even that program.
func TestSetupMayStartAProgram(t *testing.T) {
	c := start(t, "starts")
	if line := c.line(t); !strings.Contains(line, `before the seal`) || !strings.Contains(line, `tool=0,1,2, err=<nil>`) {
		t.Errorf("%q", line)
	}
	c.ready(t)
	if line := c.line(t); !strings.Contains(line, "sealed eperm=true") {
		t.Errorf("%q", line)
	}
}

func TestSealedFilesAndPorts(t *testing.T) {
	if version := landlockVersion(); version < landlockABI {
		t.Skipf("this kernel's Landlock is ABI %d, the image's %d", version, landlockABI)
	}
	dir := t.TempDir()
	own := filepath.Join(dir, "own")
	if err := errors.Join(os.Mkdir(own, 0o700), os.WriteFile(filepath.Join(dir, "there"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	abstract := fmt.Sprintf("kit-test-%d", os.Getpid())
	outside, err := net.Listen("unix", "@"+abstract)
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	c := start(t, "files", func(s *abi.Spec) {
		s.Write, s.Version, s.Read, s.Syscalls = []string{own}, abstract, []string{port.Addr().String()}, []string{"network"}
	})
	c.ready(t)
	for _, want := range []string{
		`"write in its own" refused=false`,
		`"rename in its own" refused=false`,
		`"make a folder in its own" refused=false`,
		`"rename between its folders" refused=false`,
		`"remove in its own" refused=false`,
		`"read elsewhere" refused=false`,
		`"write elsewhere" refused=true`,
		`"link out of its own" refused=true`,
		`"connect to an abstract socket" refused=true`,
		`dial refused=false`,
		`listen refused=true`,
	} {
		if line := c.line(t); !strings.HasSuffix(line, want) {
			t.Errorf("%q, want %s", line, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for name, want := range map[string]int{"misconfigured": abi.ExitMisconfigured, "unwanted": abi.ExitUnwanted, "fails": abi.ExitTemporary} {
		start(t, name).exit(t, want)
	}
}

func TestWithoutPID1(t *testing.T) {
	cmd := exec.Command(childPath)
	cmd.Env = []string{"KIT_CHILD=serves"}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != abi.ExitMisconfigured || !strings.Contains(string(out), abi.SpecEnv) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestOnlyNamedMethodsAreServed(t *testing.T) {
	c := callerOf([]abi.Caller{
		{Name: "routerd", Service: "kube", Full: kube.Service, Methods: []string{"GetStatus"}},
		{Name: "routerd", Service: "log", Full: "dactyl.log.v1.Log", Methods: []string{"ReadLog"}},
		{Name: "consoled", Service: "kube", Full: kube.Service},
	}, abi.Descriptor{Kind: abi.IPCSocket, Name: "routerd", Service: "kube"})
	if len(c.Methods) != 1 || len(c.Methods[kube.Service]) != 1 || c.Name != "routerd" {
		t.Errorf("%+v", c)
	}
}

func TestProductionNeedsLandlock(t *testing.T) {
	if landlockVersion() == landlockABI {
		t.Skip("this kernel has it")
	}
	for _, mode := range []abi.Mode{abi.Production, ""} {
		if _, err := seal(&abi.Spec{Mode: mode}); err == nil {
			t.Errorf("mode %q was sealed without Landlock", mode)
		}
	}
}

// Under Landlock's file rules nobody can mount, so the set "mount" goes without them.
func TestMountSetCanMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	c := prepare(t, "mounts", func(s *abi.Spec) { s.Syscalls, s.Mount = []string{"mount"}, []string{dir} })
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	c.begin(t)
	c.ready(t)
	c.waitLine(t, "mounted")
}

// What callers wait for when a daemon was killed, without what PID 1 needs.
func BenchmarkStartToFirstAnswer(b *testing.B) {
	for b.Loop() {
		c := start(b, "answers")
		if _, err := kube.NewClient(c.peer).GetStatus(b.Context(), &kube.GetStatusRequest{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		c.Process.Kill()
		c.Wait()
		b.StartTimer()
	}
}

func TestWhoNeedsLongerToFinishGetsIt(t *testing.T) {
	if d := drainTimeout(abi.Limits{}); d >= abi.StopTimeout || d < abi.StopTimeout-time.Second {
		t.Errorf("%v of PID 1's %v", d, abi.StopTimeout)
	}
	if d := drainTimeout(abi.Limits{StopSeconds: 40}); d >= 40*time.Second || d < 39*time.Second {
		t.Errorf("%v of 40s", d)
	}
}
