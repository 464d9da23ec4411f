package manifest

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

const root = "../.."

const good = `
name = "exampled"
user = 150
tier = 5
last = "nobody waits for it"
[calls]
network = ["ListLinks"]
[read]
"/sys/class/net" = "shows links"
[limits]
memory = "32MiB"
pids = 16
`

// program is what others wrote; a domain has its own.
const program = `
name = "server"
user = 151
tier = 6
program = "/lib/servers/all"
at = "/usr/bin/server"
args = ["--quiet"]
request = "kubed configures it first"
alone = "two would want the same port"
[env]
GOGC = "50"
[from]
networkd = "its configuration"
[network]
host = "serves"
[limits]
memory = "1GiB"
pids = 64
files = 65536
stop = "30s"
`

const first = `
name = "pods"
user = 0
tier = 4
domain = "pods"
program = "/lib/pods/pause"
[from]
networkd = "its configuration"
[capabilities]
SYS_ADMIN = "mounts"
MKNOD = "devices of pods"
[run]
"/lib/pods" = "programs"
[write]
"/run/containerd" = "sockets"
[limits]
memory = "none"
`

const member = `
name = "containerd"
user = 0
tier = 5
domain = "pods"
program = "/lib/pods/bin/containerd"
request = "kubed configures it first"
[capabilities]
MKNOD = "devices of pods"
[limits]
memory = "none"
pids = 0
`

const networkd = `
name = "networkd"
user = 104
tier = 4
provides = "network"
[write]
"/state/networkd" = "leases"
[limits]
memory = "32MiB"
pids = 16
`

// Each broken daemon.toml is good with one line changed; the error must say
// where it is wrong and what would be right.
func TestBrokenManifestsSayWhatWouldBeRight(t *testing.T) {
	services, err := Services(context.Background(), root, "production")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, from, to, want string }{
		{"unknown key", `tier = 5`, "tier = 5\nshell = true", `exampled/daemon.toml:5:1: unknown key "shell": a daemon.toml knows name, user`},
		{"unknown table", `[limits]`, "[writes]\n[limits]", `unknown key "writes"`},
		{"no reason", `"shows links"`, `" "`, `[read] /sys/class/net has no reason: write "/sys/class/net" = "why exampled needs it"`},
		{"wrong type", `tier = 5`, `tier = "five"`, `exampled/daemon.toml:4:8:`},
		{"not TOML", `tier = 5`, `tier = `, `exampled/daemon.toml:4`},
		{"unknown method", `"ListLinks"`, `"DropTables"`, `[calls] network = ["DropTables"]: dactyl.network.v1.Network has no such method (ListLinks, ListAddresses`},
		{"unknown service", `network =`, `netwrok =`, `[calls] netwrok: no such service in ipc/ (`},
		{"no methods", `["ListLinks"]`, `[]`, `[calls] network names no method: name those it calls (ListLinks`},
		{"call upwards", `tier = 5`, `tier = 3`, `[calls] network: networkd is of tier 4 and exampled of tier 3: calls go to lower tiers only`},
		{"call sideways", `tier = 5`, `tier = 4`, `networkd is of tier 4 and exampled of tier 4`},
		{"nobody provides", `network = ["ListLinks"]`, `storage = ["ListDisks"]`, `[calls] storage: no daemon provides it`},
		{"same user", `user = 150`, `user = 104`, `user = 104 is exampled's already: take a free one from 100 to 199`},
		{"root", `user = 150`, `user = 0`, `user = 0: daemons have 100 to 199`},
		{"capability nobody may have", `[read]`, "[capabilities]\nSYS_PTRACE = \"debug\"\n[read]", `[capabilities] SYS_PTRACE: not one of NET_ADMIN`},
		{"relative path", `"/sys/class/net"`, `"sys"`, `[read] sys: an absolute, clean path below /`},
		{"whole machine", `"/sys/class/net"`, `"/"`, `[read] /: an absolute, clean path below /`},
		{"memory", `"32MiB"`, `"32"`, `[limits] memory = "32": a number of MiB or GiB, such as "64MiB"`},
		{"pids", `pids = 16`, `pids = 1`, `[limits] pids = 1: 8 (a Go program's threads) to 4096`},
		{"syscalls", `[read]`, "[syscalls]\nexec = \"run things\"\n[read]", `[syscalls] exec: not one of network`},
		{"programs' set", `[read]`, "[syscalls]\nprogram = \"run things\"\n[read]", `[syscalls] program: not one of network`},
		{"every device", `[read]`, "[devices]\n\"/dev/*\" = \"all\"\n[read]", `[devices] /dev/*: matches more than one kind of device: name the kind, such as "/dev/nvme*"`},
		{"many devices", `[read]`, "[devices]\n\"/dev/[a-z]*\" = \"all\"\n[read]", `matches more than one kind of device`},
		{"memory device", `[read]`, "[devices]\n\"/dev/me*\" = \"media\"\n[read]", `[devices] /dev/me*: /dev/mem reaches all memory: no pattern may match it`},
		{"same path", `[limits]`, "[write]\n\"/sys/class/net\" = \"changes links\"\n[limits]", `[write] /sys/class/net is in [read] /sys/class/net already: keep the one that exampled needs`},
		{"path in another", `[limits]`, "[write]\n\"/sys/class/net/lo\" = \"changes links\"\n[limits]", `[write] /sys/class/net/lo is in [read] /sys/class/net already`},
		{"path around another", `[limits]`, "[mount]\n\"/sys/class\" = \"changes links\"\n[limits]", `[read] /sys/class/net is in [mount] /sys/class already`},
		{"others' sockets", `"/sys/class/net"`, `"/run"`, `[read] /run: PID 1 makes /run/ipc for each daemon: name the service in [calls]`},
		{"others' files", `"/sys/class/net"`, `"/run/from/trustd"`, `[read] /run/from/trustd: PID 1 makes /run/from for each daemon: name who writes it in [from]`},
		{"nodes by path", `"/sys/class/net"`, `"/dev/sda"`, `[read] /dev/sda: PID 1 makes /dev for each daemon: name the node in [devices]`},
		{"another's directory", `[read]`, "[write]\n\"/state/networkd/leases\" = \"leases\"\n[read]", `[write] /state/networkd: exampled writes /state/networkd/leases: a directory has one writer`},
		{"unknown giver", `[read]`, "[from]\nnobody = \"keys\"\n[read]", `[from] nobody: no such daemon`},
		{"own giver", `[read]`, "[from]\nexampled = \"keys\"\n[read]", `[from] exampled: a daemon hands nothing to itself`},
		{"foreign giver", `[read]`, "[from]\nserver = \"keys\"\n[read]", `[from] server is a program that others wrote: it hands nothing on`},
		{"giver without reason", `[read]`, "[from]\nnetworkd = \"\"\n[read]", `[from] networkd has no reason`},
		{"last of none", `tier = 5`, "tier = 5\nrequest = \"asked\"", `last: it does not start at boot at all`},
		{"files", `pids = 16`, "pids = 16\nfiles = 3", `[limits] files = 3: 64 to 1048576, or drop the line`},
		{"stop", `pids = 16`, "pids = 16\nstop = \"30\"", `[limits] stop = "30": whole seconds up to 2m0s, such as "30s"`},
		{"endless stop", `pids = 16`, "pids = 16\nstop = \"1h\"", `[limits] stop = "1h": whole seconds up to 2m0s`},
		{"no memory limit", `"32MiB"`, `"none"`, `[limits] memory = "none": only a domain's programs may`},
		{"no pids limit", `pids = 16`, `pids = 0`, `[limits] pids = 0: 8`},
		{"at", `tier = 5`, "tier = 5\nat = \"/bin/x\"", `at is for programs that others wrote: name one with program, or drop it`},
		{"arguments", `tier = 5`, "tier = 5\nargs = [\"-v\"]", `args is for programs that others wrote`},
		{"environment", `[read]`, "[env]\nGOGC = \"5\"\n[read]", `[env] is for programs that others wrote`},
		{"run without a reason", `[read]`, "[run]\n\"/lib/x\" = \" \"\n[read]", `[run] /lib/x has no reason: write "/lib/x" = "why exampled needs it"`},
		{"relative run", `[read]`, "[run]\nx = \"helpers\"\n[read]", `[run] x: an absolute, clean path below /`},
		{"our daemon in a domain", `tier = 5`, "tier = 5\ndomain = \"pods\"", `domain is for programs that others wrote`},
		{"tier", `tier = 5`, `tier = 13`, `tier = 13: 1 to 12`},
		{"no lifetime", `[limits]`, "[write]\n\"/var/lib/dactyl/exampled\" = \"cache\"\n[limits]", `[write] /var/lib/dactyl/exampled is on EPHEMERAL: say how long it lives: {boot = "why"} or {keep = "why"}`},
		{"two lifetimes", `[limits]`, "[write]\n\"/var/lib/x\" = {boot = \"cache\", keep = \"cache\"}\n[limits]", `[write] /var/lib/x is on EPHEMERAL: say how long it lives`},
		{"unknown lifetime", `[limits]`, "[write]\n\"/var/lib/x\" = {year = \"cache\"}\n[limits]", `exampled/daemon.toml: [write] /var/lib/x: year = cache: write {boot = "why"}`},
		{"lifetime elsewhere", `[limits]`, "[write]\n\"/run/x\" = {boot = \"cache\"}\n[limits]", `[write] /run/x is not on EPHEMERAL: write "/run/x" = "why exampled needs it"`},
		{"lifetime without a reason", `[limits]`, "[write]\n\"/var/lib/x\" = {keep = \" \"}\n[limits]", `[write] /var/lib/x has no reason`},
		{"owner outside of a domain", `[limits]`, "[write]\n\"/var/lib/x\" = {keep = \"cache\", of = \"exampled\"}\n[limits]", `[write] /var/lib/x: of = "exampled": only a program of the same domain can have its directory set aside`},
	} {
		t.Run(c.name, func(t *testing.T) { breaks(t, services, good, c.from, c.to, c.want) })
	}
	for _, c := range []struct{ name, text, from, to, want string }{
		{"provides", program, `tier = 6`, "tier = 6\nprovides = \"kube\"", `provides: server is a program that others wrote, which does not know of it`},
		{"calls", program, `[network]`, "[calls]\nnetwork = [\"ListLinks\"]\n[network]", `[calls]: server is a program that others wrote`},
		{"listen", program, `[network]`, "[listen]\n\"tcp:80\" = \"serves\"\n[network]", `[listen]: server is a program that others wrote`},
		{"relative program", program, `"/lib/servers/all"`, `"all"`, `program = "all": an absolute, clean path below /`},
		{"relative at", program, `"/usr/bin/server"`, `"server"`, `at = "server": an absolute, clean path below /`},
		{"environment", program, `GOGC`, `"GO GC"`, `[env] "GO GC": letters, digits and underscores`},
		{"run outside a domain", program, `[network]`, "[run]\n\"/lib/x\" = \"helpers\"\n[network]", `[run]: of programs that others wrote only a domain's start others; server has no domain`},
		{"root", program, `user = 151`, `user = 0`, `user = 0: daemons have 100 to 199`},
		{"pods' capability", program, `[network]`, "[capabilities]\nMKNOD = \"nodes\"\n[network]", `[capabilities] MKNOD: not one of NET_ADMIN`},

		{"user of a domain", member, `user = 0`, `user = 152`, `user = 152: a domain's programs have 0`},
		{"no such domain", member, `domain = "pods"`, `domain = "podz"`, `domain = "podz": no program of that name makes a domain`},
		{"somebody without a domain", member, `domain = "pods"`, `domain = "server"`, `domain = "server": no program of that name makes a domain`},
		{"before its domain", member, `tier = 5`, `tier = 4`, `tier = 4: pods, in whose domain it runs, is of tier 4 and must start before`},
		{"more than the domain", member, `[limits]`, "SYS_PTRACE = \"looks\"\n[limits]", `[capabilities] SYS_PTRACE: the domain pods does not have it`},
		{"capability of no pod", member, `[limits]`, "SYS_MODULE = \"drivers\"\n[limits]", `[capabilities] SYS_MODULE: not one of AUDIT_WRITE`},
		{"a right of the domain", member, `[limits]`, "[write]\n\"/var/lib/x\" = \"state\"\n[limits]", `[write]: all programs of the domain pods share it: put it there`},
		{"a giver of the domain", member, `[limits]`, "[from]\nnetworkd = \"keys\"\n[limits]", `[from]: all programs of the domain pods share it: put it there`},
		{"syscalls in a domain", first, `[limits]`, "[syscalls]\nmount = \"mounts\"\n[limits]", `[syscalls]: a domain's programs have no filter`},
		{"an owner elsewhere", first, `"/run/containerd" = "sockets"`, `"/var/lib/containerd" = {keep = "images", of = "server"}`, `[write] /var/lib/containerd: of = "server": only a program of the same domain`},
		{"an owner of what is emptied", first, `"/run/containerd" = "sockets"`, `"/var/lib/containerd" = {boot = "images", of = "containerd"}`, `[write] /var/lib/containerd: of is for what is kept`},
		{"keys for pods", first, `"/run/containerd"`, `"/state"`, `[write] /state: pods must not see /state`},
		{"all volumes for pods", first, `"/run/containerd"`, `"/var/lib"`, `[write] /var/lib: pods must not see /var/lib/dactyl`},
	} {
		t.Run(c.name, func(t *testing.T) { breaks(t, services, c.text, c.from, c.to, c.want) })
	}
	for _, text := range []string{good, program, first, member} {
		if err := compileWith(services, text); err != nil {
			t.Errorf("a good one: %v", err)
		}
	}
}

// breaks wants the error when from is changed to to in a good text.
func breaks(t *testing.T, services []Service, good, from, to, want string) {
	t.Helper()
	text := strings.Replace(good, from, to, 1)
	if text == good {
		t.Fatalf("nothing to replace: %q", from)
	}
	if err := compileWith(services, text); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("error %v\nwant %s", err, want)
	}
}

// compileWith compiles text in the place of the good one of its kind, with the others.
func compileWith(services []Service, text string) error {
	_, err := together(services, text)
	return err
}

func together(services []Service, text string) (*Build, error) {
	name := func(text string) string { return strings.Split(text, "\n")[1] }
	var all []*Manifest
	for _, other := range []string{good, networkd, program, first, member} {
		if name(other) == name(text) {
			other = text
		}
		m, err := Parse(strings.Trim(name(other)[len("name = "):], `"`)+"/daemon.toml", []byte(other))
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return New("production", all, services)
}

// What PID 1 is told of programs that others wrote.
func TestForeignProgramsAreCompiled(t *testing.T) {
	services, err := Services(context.Background(), root, "production")
	if err != nil {
		t.Fatal(err)
	}
	b, err := together(services, good)
	if err != nil {
		t.Fatal(err)
	}
	daemons := map[string]abi.Daemon{}
	for _, d := range b.System("0", 0).Daemons {
		daemons[d.Name] = d
	}
	server := daemons["server"]
	if filter := server.Foreign.Filter; len(filter) == 0 || len(filter)%8 != 0 {
		t.Errorf("server's filter has %d bytes", len(filter))
	}
	server.Foreign.Filter = nil
	want := abi.Daemon{
		Name: "server", Exec: "/usr/bin/server", User: 151, Tier: 6, Network: "host", UserNS: true,
		Limits: abi.Limits{MemoryBytes: 1 << 30, PIDs: 64, Files: 65536, StopSeconds: 30},
		From:   []string{"networkd"}, OnRequest: true, Alone: true,
		Foreign: &abi.Foreign{Program: "/lib/servers/all", Args: []string{"--quiet"}, Env: []string{"GOGC=50"}},
	}
	if !sameJSON(t, server, want) {
		t.Errorf("server is %+v\nwant %+v", server, want)
	}
	if !daemons["exampled"].Last || server.Last {
		t.Error("exampled has a reason to start last; server has none")
	}
	if !daemons["networkd"].Gives || daemons["exampled"].Gives {
		t.Error("networkd, which others name in [from], gives; exampled does not")
	}
	containerd := abi.Daemon{
		Name: "containerd", Exec: "/lib/pods/bin/containerd", Tier: 5, Capabilities: []string{"MKNOD"}, OnRequest: true,
		Foreign: &abi.Foreign{Program: "/lib/pods/bin/containerd"}, Domain: "pods",
	}
	if !sameJSON(t, daemons["containerd"], containerd) {
		t.Errorf("containerd is %+v\nwant %+v", daemons["containerd"], containerd)
	}
}

func sameJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := JSON(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := JSON(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

// What a production image serves has neither the development nor the test
// service, nor a daemon for tests.
func TestProductionHasNothingForDevelopment(t *testing.T) {
	for mode, want := range map[string]int{"production": 0, "dev": 1, "test": 2} {
		b, err := Read(context.Background(), root, mode)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, s := range b.Served() {
			if s.Full == "dactyl.dev.v1.Dev" || s.Full == "dactyl.probe.v1.Probe" {
				got++
			}
		}
		if got != want {
			t.Errorf("%s image: %d services for development and tests, want %d", mode, got, want)
		}
		for _, d := range b.System("0", 0).Daemons {
			if mode == "production" && strings.Contains(d.Exec, "mischief") {
				t.Errorf("production image has %s", d.Exec)
			}
		}
	}
}
