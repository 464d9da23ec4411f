package main

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
	pb "github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/probe"
)

// seen is what testdata/daemon reports.
type seen struct {
	Version                        string
	PID, UID, GID                  int
	Groups                         []int
	Effective, Permitted           uint64
	Ambient, Bounding              uint64
	NoNewPrivs, Securebits         int
	Files, Environment, Interfaces []string
	Descriptors                    []int
	CanWrite                       []string
	CanExecute, OOMScore           string
}

func (w *world) report(service string) seen {
	w.t.Helper()
	var r seen
	w.eventually(service+" answers", func() bool {
		text, err := w.tell(service, "report")
		return err == nil && json.Unmarshal([]byte(text), &r) == nil
	})
	return r
}

func TestDaemonSeesOnlyItsOwn(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{
		Name: "echo", Read: []string{"/etc/os-release"}, Write: []string{"/var/lib/dactyl/echo"}, Devices: []string{"/dev/fu*"},
	}))
	r := w.report("echo")
	want := []string{"/", "/dev", "/dev/full", "/dev/null", "/dev/urandom", "/dev/zero", "/etc", "/etc/os-release",
		"/lib", "/lib/dactyl", "/lib/dactyl/echo", "/var", "/var/lib", "/var/lib/dactyl", "/var/lib/dactyl/echo"}
	if !slices.Equal(r.Files, want) {
		t.Errorf("files %v\nwant  %v", r.Files, want)
	}
	if !slices.Equal(r.CanWrite, []string{"/var/lib/dactyl/echo"}) {
		t.Errorf("can write %v", r.CanWrite)
	}
	if r.CanExecute != "EACCES" {
		t.Errorf("execute what it wrote: %s", r.CanExecute)
	}
	if r.PID != 1 || r.UID != 60001 || r.GID != 60001 || len(r.Groups) != 0 {
		t.Errorf("pid %d uid %d gid %d groups %v", r.PID, r.UID, r.GID, r.Groups)
	}
	if r.Effective != 0 || r.Bounding != 0 || r.NoNewPrivs != 1 {
		t.Errorf("effective %#x bounding %#x no_new_privs %d", r.Effective, r.Bounding, r.NoNewPrivs)
	}
	if !slices.Equal(r.Interfaces, []string{"lo loopback"}) {
		t.Errorf("interfaces %v", r.Interfaces)
	}
	if len(r.Environment) != 1 || !slices.Equal(r.Descriptors, []int{0, 1, 2, 3, 4}) {
		t.Errorf("environment %v descriptors %v", r.Environment, r.Descriptors)
	}
}

func TestGrantedRightsAndMounts(t *testing.T) {
	w := startWorld(t, testSystem(
		abi.Daemon{Name: "mounter", Capabilities: []string{"SYS_ADMIN"}, Mount: []string{"/state"}},
		abi.Daemon{Name: "user", Tier: 2, Read: []string{"/state"}},
	))
	client := pb.NewClient(w.peer("machine"))
	r := w.report("mounter")
	if r.Effective != 1<<unix.CAP_SYS_ADMIN || r.Bounding != r.Effective || r.Securebits != securebits {
		t.Errorf("effective %#x bounding %#x securebits %#x", r.Effective, r.Bounding, r.Securebits)
	}
	if answer, err := w.tell("mounter", "mount /state"); err != nil || answer != "<nil>\n" {
		t.Fatalf("mount: %s %v", answer, err)
	}
	if err := os.WriteFile(w.path("/state/seen"), nil, 0o644); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(w.root + "/state/seen"); err == nil {
		t.Error("the mount did not reach PID 1's namespace")
	}
	w.report("user")
	if _, err := client.RestartDaemon(context.Background(), &pb.RestartDaemonRequest{Name: "user"}); err != nil {
		t.Fatal(err)
	}
	if r := w.report("user"); !slices.Contains(r.Files, "/state/seen") || len(r.CanWrite) != 0 {
		t.Errorf("a daemon that reads /state sees %v and writes %v", r.Files, r.CanWrite)
	}
}

// Until it seals itself, a daemon starts the programs of its [run] and no others: not what
// it reads or writes, and nothing without [run]. What it starts has no more than it has,
// and no capability of its, if it gives these up first.
func TestDaemonStartsOnlyItsRun(t *testing.T) {
	w := &world{t: t, root: t.TempDir(), gone: make(chan struct{})}
	if os.Getuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	const tool, other = "/lib/dactyl/tool", "/lib/dactyl/other"
	w.stage(testSystem(
		abi.Daemon{Name: "starter", Capabilities: []string{"SYS_ADMIN"}, Run: []string{tool}, Read: []string{other}, Write: []string{"/var/lib/dactyl/starter"}},
		abi.Daemon{Name: "reader", Read: []string{tool}},
		abi.Daemon{Name: "plain"},
	))
	for _, path := range []string{tool, other} {
		build(t, w.root+path, "./testdata/daemon")
	}
	w.start()

	daemon := w.report("starter")
	if daemon.Ambient != 1<<unix.CAP_SYS_ADMIN || daemon.CanExecute != "EACCES" {
		t.Fatalf("the daemon has ambient capabilities %#x, and executes what it wrote: %s", daemon.Ambient, daemon.CanExecute)
	}
	text, err := w.tell("starter", "start "+tool)
	var child seen
	if err != nil || json.Unmarshal([]byte(text), &child) != nil {
		t.Fatalf("%v, %s", err, text)
	}
	if child.Effective|child.Permitted|child.Ambient != 0 || child.Bounding != daemon.Bounding || child.NoNewPrivs != 1 || child.Securebits != daemon.Securebits {
		t.Errorf("its program has capabilities %#x %#x %#x of %#x, no_new_privs %d, securebits %#x",
			child.Effective, child.Permitted, child.Ambient, child.Bounding, child.NoNewPrivs, child.Securebits)
	}
	if child.UID != daemon.UID || child.GID != daemon.GID || len(child.Groups) != 0 || child.PID == 1 {
		t.Errorf("its program has pid %d uid %d gid %d groups %v", child.PID, child.UID, child.GID, child.Groups)
	}
	if !slices.Equal(child.Files, daemon.Files) || !slices.Equal(child.CanWrite, daemon.CanWrite) || !slices.Equal(child.Interfaces, daemon.Interfaces) {
		t.Errorf("its program sees %v, writes %v, and has %v", child.Files, child.CanWrite, child.Interfaces)
	}

	for _, c := range []struct{ daemon, path, want string }{
		{"starter", other, "permission denied"},
		{"reader", tool, "permission denied"},
		{"plain", tool, "no such file or directory"},
	} {
		w.report(c.daemon)
		if text, err := w.tell(c.daemon, "start "+c.path); err != nil || !strings.Contains(text, c.want) {
			t.Errorf("%s starts %s: %s, %v; want %s", c.daemon, c.path, text, err, c.want)
		}
	}
}

func TestKilledDaemonAnswersAgain(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{Name: "echo"}))
	client := pb.NewClient(w.peer("machine"))
	prober := probe.NewClient(w.peer("probe"))
	w.report("echo")
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var took []time.Duration
	for range 9 {
		// An incarnation that lives long enough resets the count of failures.
		w.eventually("echo has been up for a while", func() bool {
			d := w.daemon(client, "echo")
			return d.UptimeMs > minUptime.Milliseconds() || d.Restarts%3 != 0
		})
		start := time.Now()
		killed, err := prober.Signal(ctx, &probe.SignalRequest{Daemon: "echo", Signal: int32(unix.SIGKILL)})
		if err != nil {
			t.Fatal(err)
		}
		for {
			// A process on another processor may still answer before it dies.
			if _, err := w.tell("echo", "version"); err == nil && w.daemon(client, "echo").Pid != killed.Pid {
				break
			}
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("killed → answered: min %v median %v max %v", took[0], took[len(took)/2], took[len(took)-1])
}

func (w *world) daemon(c pb.Client, name string) *pb.Daemon {
	w.t.Helper()
	all, err := c.ListDaemons(context.Background(), &pb.ListDaemonsRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range all.Daemons {
		if d.Name == name {
			return d
		}
	}
	w.t.Fatalf("no daemon %s", name)
	return nil
}
