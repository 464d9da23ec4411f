package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc/probe"
)

const (
	// foreignProgram is testdata/foreign in the image.
	foreignProgram = "/lib/other/program"
	// foreignDir is where it listens.
	foreignDir = "/var/lib/foreign"
)

// sight is what testdata/foreign reports.
type sight struct {
	Args, Environment []string
	PID, UID, GID     int
	Status            map[string]string
	OpenFiles         uint64
	Processes         map[int]string
	Mounts            []string
	Cgroup            string
	Descriptors       int
	Device            []string
}

// foreign is a program that others wrote, listening at foreignDir/NAME.
func foreign(name string) abi.Daemon {
	return abi.Daemon{
		Name: name, Exec: "/usr/bin/" + name, OnRequest: true, Alone: true,
		Foreign: &abi.Foreign{Program: foreignProgram, Args: []string{foreignDir + "/" + name}, Env: []string{"HOME=/nowhere"}},
	}
}

// ask sends a command to a foreign program.
func (w *world) ask(name, command string) string {
	w.t.Helper()
	var text string
	w.eventually(name+" answers", func() bool {
		var err error
		text, err = converse(w.path(foreignDir+"/"+name), command)
		return err == nil
	})
	return strings.TrimSpace(text)
}

func (w *world) look(name string) sight {
	w.t.Helper()
	var r sight
	if err := json.Unmarshal([]byte(w.ask(name, "report")), &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// sockFilter refuses one system call and allows all others.
func sockFilter(number uint32) []byte {
	var b []byte
	for _, f := range []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: number, Jf: 1},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EXDEV)},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	} {
		b = binary.NativeEndian.AppendUint16(b, f.Code)
		b = append(b, f.Jt, f.Jf)
		b = binary.NativeEndian.AppendUint32(b, f.K)
	}
	return b
}

func TestForeignProgram(t *testing.T) {
	server := foreign("server")
	server.Write = []string{foreignDir}
	server.Read = []string{"/proc", "/etc/os-release"}
	server.Limits.Files = 333
	server.Foreign.Filter = sockFilter(unix.SYS_SETTIMEOFDAY)
	w := startWorld(t, testSystem(server))
	c := w.control()
	pid, code := c.begin("server", "--flag=1")
	if code != codes.OK {
		t.Fatal(code)
	}
	r := w.look("server")
	if want := []string{"server", foreignDir + "/server", "--flag=1"}; !slices.Equal(r.Args, want) {
		t.Errorf("arguments %q, want %q", r.Args, want)
	}
	if !slices.Equal(r.Environment, []string{"HOME=/nowhere"}) {
		t.Errorf("environment %q", r.Environment)
	}
	if r.PID != 1 || r.UID != 60001 || r.OpenFiles != 333 {
		t.Errorf("pid %d uid %d files %d", r.PID, r.UID, r.OpenFiles)
	}
	if answer := w.ask("server", "time"); answer != "invalid cross-device link" {
		t.Errorf("the filter answers %s", answer)
	}
	if answer := w.ask("server", "copy "+foreignDir); !strings.Contains(answer, "permission denied") {
		t.Errorf("execute what it wrote: %s", answer)
	}
	d := w.daemon(c.Client, "server")
	if d.State != up || d.Pid != pid || d.Seccomp != "filter" || !d.NoNewPrivs || len(d.Bounding) != 0 {
		t.Error(d)
	}
	// It has no watchdog to feed, and what it exits with is a crash.
	prober := probe.NewClient(w.peer("probe"))
	if _, err := prober.Signal(t.Context(), &probe.SignalRequest{Daemon: "server", Signal: int32(unix.SIGTERM)}); err != nil {
		t.Fatal(err)
	}
	w.eventually("it runs again", func() bool {
		d := w.daemon(c.Client, "server")
		return d.State == up && d.Restarts == 1
	})
	if r := w.look("server"); r.Args[2] != "--flag=1" {
		t.Errorf("arguments after a crash: %q", r.Args)
	}
}

// domainSystem has a domain of a first process and two members.
func domainSystem(more ...abi.Daemon) *abi.System {
	pods, runtime, agent := foreign("pods"), foreign("runtime"), foreign("agent")
	pods.Domain, runtime.Domain, agent.Domain = "pods", "pods", "pods"
	pods.Foreign.Args = []string{"first"}
	pods.Run = []string{"/lib/other"}
	pods.Write = []string{foreignDir, "/var/lib/pods"}
	pods.Read = []string{"/etc/os-release"}
	pods.From = []string{"echo"}
	rights := slices.DeleteFunc(slices.Clone(capabilityNames), func(name string) bool { return name == throughMounts })
	pods.Capabilities = rights
	runtime.Exec, agent.Exec = foreignProgram, foreignProgram
	runtime.Tier, agent.Tier = 2, 3
	runtime.Capabilities, agent.Capabilities = rights, []string{"NET_ADMIN", "DAC_OVERRIDE", "CHOWN"}
	return testSystem(append(more, pods, runtime, agent, abi.Daemon{Name: "echo", Gives: true})...)
}

func startDomain(t *testing.T) control {
	w := startWorld(t, domainSystem())
	c := w.control()
	if _, code := c.begin("runtime"); code != codes.FailedPrecondition {
		t.Errorf("start in a domain that is not there: %v", code)
	}
	for _, name := range []string{"pods", "runtime", "agent"} {
		if _, code := c.begin(name); code != codes.OK {
			t.Fatalf("start %s: %v: %s", name, code, w.daemon(c.Client, name).Reason)
		}
	}
	return c
}

func TestDomainSharesProcessesAndMounts(t *testing.T) {
	c := startDomain(t)
	c.report("echo")
	runtime, agent := c.look("runtime"), c.look("agent")
	if want := []string{"pods", "program", "program"}; !slices.Equal(slices.Sorted(maps.Values(agent.Processes)), want) || agent.Processes[1] != "pods" {
		t.Errorf("the agent sees %v", agent.Processes)
	}
	for _, path := range []string{"/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/run/from/echo/pods", foreignDir} {
		if !slices.ContainsFunc(agent.Mounts, func(line string) bool { return strings.Contains(line, " "+path+" ") }) {
			t.Errorf("nothing is mounted on %s", path)
		}
	}
	for _, line := range agent.Mounts {
		if !strings.Contains(line, " shared:") || strings.Contains(line, " master:") {
			t.Errorf("not shared within the domain, or bound to what is outside: %s", line)
		}
		if strings.Contains(line, " "+foreignDir+" ") && (strings.Contains(line, "noexec") || strings.Contains(line, "nodev") || strings.Contains(line, "nosuid")) {
			t.Errorf("containers cannot live in %s", line)
		}
	}
	// A mount that one makes is seen by the other and by nobody else.
	if answer := c.ask("runtime", "mount /var/lib/pods"); answer != "<nil>" {
		t.Fatalf("mount: %s", answer)
	}
	mounted := func(r sight) int {
		return len(slices.DeleteFunc(r.Mounts, func(line string) bool { return !strings.Contains(line, " /var/lib/pods ") }))
	}
	if n := mounted(c.look("agent")); n != 2 {
		t.Errorf("the agent sees %d mounts on /var/lib/pods, want the directory and what the runtime mounted", n)
	}
	if outside := (procDir(fmt.Sprintf("/proc/%d", c.pid))).read("mountinfo"); strings.Contains(outside, " /var/lib/pods ") {
		t.Error("a mount of the domain is seen outside")
	}
	if answer := c.ask("agent", "mount /var/lib/pods"); answer != "operation not permitted" {
		t.Errorf("mount without the right to: %s", answer)
	}
	if !strings.HasSuffix(strings.TrimSpace(runtime.Cgroup), "/runtime") || !strings.HasSuffix(strings.TrimSpace(agent.Cgroup), "/agent") {
		t.Errorf("cgroups %q %q", runtime.Cgroup, agent.Cgroup)
	}
	if agent.Status["NoNewPrivs"] != "0" || agent.Status["Seccomp"] != "0" || agent.Status["CapEff"] != fmt.Sprintf("%016x", 1<<unix.CAP_NET_ADMIN|1<<unix.CAP_DAC_OVERRIDE|1<<unix.CAP_CHOWN) {
		t.Error(agent.Status)
	}
}

func TestDomainRefusesRawDevices(t *testing.T) {
	c := startDomain(t)
	const refused = "make: operation not permitted"
	for node, want := range map[string]string{
		"c 1 3": "<nil>", "c 1 5": "<nil>", "c 1 7": "<nil>", "c 1 8": "<nil>", "c 1 9": "<nil>",
		"c 0 0": "open NODE: no such device or address",      // overlayfs's mark of a removed file
		"c 1 1": refused, "c 1 2": refused, "c 1 4": refused, // memory
		"c 189 0": refused, "c 189 129": refused, // USB devices
		"c 4 0": refused, "c 4 64": refused, "c 5 1": refused, "c 7 0": refused, "c 7 1": refused, "c 29 0": refused, // consoles and screens
		"c 13 64": refused, "c 226 0": refused, "c 226 128": refused, // input, gpu
		"c 21 0": refused, "c 252 0": refused, "c 254 0": refused, // sg; majors that the kernel assigns: rtc, ptp, tpm, gpio …
		"c 10 130": refused, "c 10 135": refused, "c 10 224": refused, "c 10 236": refused, "c 10 237": refused, "c 81 0": refused,
		"b 254 0": refused, "b 8 1": refused, "b 259 3": refused, "b 1 3": refused, "b 136 0": refused,
	} {
		if answer := c.ask("runtime", "node "+node); answer != strings.ReplaceAll(want, "NODE", foreignDir+"/node") {
			t.Errorf("node %s: %s, want %s", node, answer, want)
		}
	}
	if answer := c.ask("runtime", "open /dev/ptmx"); answer != "<nil>" {
		t.Errorf("a terminal: %s", answer)
	}
	if answer := c.ask("runtime", "filters /sys/fs/cgroup"); answer != "0 <nil>" {
		t.Errorf("the domain's root can reach %s filters, and so take them off", answer)
	}
}

// A privileged container cannot take the disk that the machine runs from off its bus with
// a device node or the /sys that it finds. It can with a /sys that it mounts: that is a gap
// that docs/threat-model.md names. Nothing is written here but to what must refuse it.
func TestDomainAndDevicesOnTheirBus(t *testing.T) {
	c := startDomain(t)
	for _, node := range []string{"c 189 0", "c 189 129"} { // usbfs
		if answer := c.ask("runtime", "node "+node); answer != "make: operation not permitted" {
			t.Errorf("node %s: %s", node, answer)
		}
	}
	// Files of the loopback link stand for unbind, remove and authorized: they are the same
	// kind in the same file system, and a wrong answer changes nothing outside this test.
	const file = "class/net/lo/mtu"
	if answer := c.ask("runtime", "write /sys/"+file+" 65536"); answer != "open /sys/"+file+": read-only file system" {
		t.Errorf("the domain's /sys: %s", answer)
	}
	if answer := c.ask("agent", "sysfs /var/lib/pods "+file); answer != "operation not permitted" {
		t.Errorf("another /sys, without the right to mount: %s", answer)
	}
	if answer := c.ask("runtime", "sysfs /var/lib/pods "+file); answer != "<nil>" {
		t.Errorf("another /sys: %s: if it cannot be written any more, take the gap out of docs/threat-model.md", answer)
	}
}

func TestDomainEndsWithItsFirstProcess(t *testing.T) {
	c := startDomain(t)
	if answer := c.ask("runtime", "orphan"); answer != "<nil>" {
		t.Fatal(answer)
	}
	prober := probe.NewClient(c.peer("probe"))
	kill := func(name string) {
		t.Helper()
		if _, err := prober.Signal(t.Context(), &probe.SignalRequest{Daemon: name, Signal: int32(unix.SIGKILL)}); err != nil {
			t.Fatal(err)
		}
	}
	pids := func() map[string]int32 {
		all := map[string]int32{}
		for _, name := range []string{"pods", "runtime", "agent"} {
			if d := c.daemon(c.Client, name); d.State == up {
				all[name] = d.Pid
			}
		}
		return all
	}
	before := pids()
	kill("agent")
	c.eventually("the agent is back", func() bool { now := pids(); return now["agent"] != 0 && now["agent"] != before["agent"] })
	if now := pids(); now["pods"] != before["pods"] || now["runtime"] != before["runtime"] {
		t.Errorf("%v became %v", before, now)
	}
	before = pids()
	kill("pods")
	c.eventually("all are back", func() bool {
		now := pids()
		return len(now) == 3 && now["pods"] != before["pods"] && now["runtime"] != before["runtime"] && now["agent"] != before["agent"]
	})
	if got := c.look("agent").Processes; len(got) != 3 {
		t.Errorf("the new domain has %v", got)
	}
	if code := c.finish("pods"); code != codes.FailedPrecondition {
		t.Errorf("stop a domain in which others run: %v", code)
	}
	for _, name := range []string{"agent", "runtime", "pods"} {
		if code := c.finish(name); code != codes.OK {
			t.Errorf("stop %s: %v", name, code)
		}
	}
	start := time.Now()
	if _, code := c.begin("pods"); code != codes.OK {
		t.Errorf("start again: %v", code)
	}
	t.Logf("the domain took %v", time.Since(start))
}
