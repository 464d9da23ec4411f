// Scenario confinement: what daemon.toml promises is what the kernel enforces. For
// every process on the machine: its exact user, capability masks, namespaces,
// seccomp mode, no_new_privs, mounts and cgroup; and that nothing else runs. If it
// fails, a wall that we say is there is not.
package confinement

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/test/vm"
)

// capability numbers, from linux/capability.h.
var capability = map[string]uint{"NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_ADMIN": 21, "SYS_RESOURCE": 24, "SYS_TIME": 25, "SYSLOG": 34}

// Scenario looks at a machine as it is: a plain one, where nothing that only runs on
// request has a process, or a node. What is in a domain has walls of another kind:
// pod_cannot_reach_host looks at them.
func Scenario(t *testing.T, r *vm.Running) {
	list, err := probe.NewClient(r.Admin).ListProcesses(vm.Context(t), &probe.ListProcessesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	up := running(t, r)
	byDaemon := map[string]*probe.Process{}
	for _, p := range list.Processes {
		if strings.HasPrefix(p.Cgroup, domains) {
			continue
		}
		if p.Daemon == "" {
			t.Errorf("process %d (%s, %s) is nobody's", p.Pid, p.Name, p.Executable)
		}
		if byDaemon[p.Daemon] != nil {
			t.Errorf("%s has two processes, %d and %d", p.Daemon, byDaemon[p.Daemon].Pid, p.Pid)
		}
		byDaemon[p.Daemon] = p
	}
	for _, d := range compiled(t, r).Daemons {
		p := byDaemon[d.Name]
		switch {
		case d.Domain != "":
		case !up[d.Name] && p == nil:
		case p == nil:
			t.Errorf("%s has no process", d.Name)
		case !up[d.Name]:
			t.Errorf("%s has a process, %d, and nobody has asked for it", d.Name, p.Pid)
		default:
			t.Run(d.Name, func(t *testing.T) {
				checkRights(t, d, p)
				checkNamespaces(t, d, p, byDaemon)
				checkMounts(t, d, p)
			})
		}
	}
}

// domains begins the path of the cgroups of what lives in a domain.
const domains = "/domains/"

// running says which daemons have to have a process: all but those that are idle.
func running(t *testing.T, r *vm.Running) map[string]bool {
	t.Helper()
	list, err := r.Machine0().ListDaemons(vm.Context(t), &machine.ListDaemonsRequest{Brief: true})
	if err != nil {
		t.Fatal(err)
	}
	up := map[string]bool{}
	for _, d := range list.Daemons {
		up[d.Name] = d.State != machine.DaemonState_DAEMON_STATE_IDLE
		if !up[d.Name] && !d.OnRequest {
			t.Errorf("%s is idle: only what runs on request may be", d.Name)
		}
	}
	return up
}

func compiled(t *testing.T, r *vm.Running) abi.System {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(r.Config.Image), "root", abi.SystemPath))
	if err != nil {
		t.Fatal(err)
	}
	var s abi.System
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func checkRights(t *testing.T, d abi.Daemon, p *probe.Process) {
	own := []uint32{d.User, d.User, d.User, d.User}
	if !slices.Equal(p.Uids, own) || !slices.Equal(p.Gids, own) || len(p.Groups) != 0 {
		t.Errorf("uids %v, gids %v, groups %v; want %d alone", p.Uids, p.Gids, p.Groups, d.User)
	}
	var mask uint64
	for _, c := range d.Capabilities {
		mask |= 1 << capability[c]
	}
	for _, set := range []string{"CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"} {
		if p.Capabilities[set] != mask {
			t.Errorf("%s = %#x, want %#x (%v)", set, p.Capabilities[set], mask, d.Capabilities)
		}
	}
	if p.Seccomp != 2 || p.SeccompFilters < 1 {
		t.Errorf("seccomp mode %d with %d filters; want a filter", p.Seccomp, p.SeccompFilters)
	}
	if !p.NoNewPrivs {
		t.Error("no_new_privs is off")
	}
	if p.Executable != d.Exec && p.Executable != "" {
		t.Errorf("runs %s, want %s", p.Executable, d.Exec)
	}
	if !strings.Contains(p.Cgroup, "/"+d.Name) {
		t.Errorf("cgroup %q is not its own", p.Cgroup)
	}
}

func checkNamespaces(t *testing.T, d abi.Daemon, p *probe.Process, all map[string]*probe.Process) {
	own := map[string]bool{"mnt": true, "pid": true, "ipc": true, "uts": true, "cgroup": true, "net": d.Network != "host", "user": d.UserNS}
	for ns, want := range own {
		if p.Namespaces[ns] == "" {
			t.Errorf("no %s namespace is known", ns)
		}
		shared := ""
		for name, other := range all {
			if name != d.Name && other.Namespaces[ns] == p.Namespaces[ns] {
				shared = name
			}
		}
		switch {
		case want && shared != "":
			t.Errorf("shares its %s namespace with %s", ns, shared)
		case !want && p.Namespaces[ns] != all["init"].Namespaces[ns]:
			t.Errorf("has a %s namespace of its own; its rights say the machine's", ns)
		}
	}
}

// mount is one line of mountinfo.
type mount struct{ at, options string }

func mounts(p *probe.Process) []mount {
	var out []mount
	for _, line := range p.Mounts {
		if f := strings.Fields(line); len(f) > 5 {
			out = append(out, mount{f[4], f[5]})
		}
	}
	return out
}

// checkMounts wants exactly the mounts of the manifest, each with its options:
// nothing in a daemon's root can be both written and executed.
func checkMounts(t *testing.T, d abi.Daemon, p *probe.Process) {
	want := map[string][]string{
		"/":    {"ro", "nosuid", "nodev", "noexec"},
		"/dev": {"ro", "nosuid", "noexec"},
		d.Exec: {"ro", "nosuid", "nodev"},
	}
	for _, path := range d.Read {
		want[path] = []string{"ro", "nosuid", "nodev", "noexec"}
	}
	for _, path := range d.Run {
		want[path] = []string{"ro", "nosuid", "nodev"}
	}
	for _, path := range d.Write {
		want[path] = []string{"rw", "nosuid", "nodev", "noexec"}
	}
	for _, path := range d.Mount {
		want[path] = []string{"nosuid", "nodev"}
	}
	if d.Gives {
		want[filepath.Join(abi.ShareDir, d.Name)] = []string{"rw", "nosuid", "nodev", "noexec"}
	}
	for _, giver := range d.From {
		want[filepath.Join(abi.ShareDir, giver, d.Name)] = []string{"ro", "nosuid", "nodev", "noexec"}
	}
	seen := map[string]bool{}
	for _, m := range mounts(p) {
		options, known := want[m.at]
		if m.at == abi.SocketDir {
			options, known = []string{"ro", "nosuid", "nodev", "noexec"}, true
		}
		if !known && !below(m.at, append(slices.Clone(d.Read), append(d.Write, d.Mount...)...)) {
			t.Errorf("mount %s (%s): no right in daemon.toml gives it", m.at, m.options)
			continue
		}
		seen[m.at] = true
		for _, o := range options {
			if m.at != "/" && slices.Contains(d.Mount, m.at) {
				break // what is mounted there is storaged's to say
			}
			if !slices.Contains(strings.Split(m.options, ","), o) {
				t.Errorf("mount %s has %s, want %v", m.at, m.options, options)
				break
			}
		}
	}
	for at := range want {
		if !seen[at] {
			t.Errorf("%s is not mounted", fmt.Sprint(at))
		}
	}
}

func below(path string, of []string) bool {
	return slices.ContainsFunc(of, func(dir string) bool { return strings.HasPrefix(path, dir+"/") })
}
