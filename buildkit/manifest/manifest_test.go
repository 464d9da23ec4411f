package manifest

import (
	"context"
	"strings"
	"testing"
)

const root = "../.."

const good = `
name = "exampled"
user = 150
tier = 5
[calls]
network = ["ListLinks"]
[read]
"/sys/class/net" = "shows links"
[limits]
memory = "32MiB"
pids = 16
`

const networkd = `
name = "networkd"
user = 104
tier = 4
provides = "network"
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
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(good, c.from, c.to, 1)
			if text == good {
				t.Fatalf("nothing to replace: %q", c.from)
			}
			err := compileTwo(services, text)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v\nwant %s", err, c.want)
			}
		})
	}
	if err := compileTwo(services, good); err != nil {
		t.Fatalf("the good one: %v", err)
	}
}

func compileTwo(services []Service, text string) error {
	a, err := Parse("exampled/daemon.toml", []byte(text))
	if err != nil {
		return err
	}
	b, err := Parse("networkd/daemon.toml", []byte(networkd))
	if err != nil {
		return err
	}
	_, err = New("production", []*Manifest{a, b}, services)
	return err
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
