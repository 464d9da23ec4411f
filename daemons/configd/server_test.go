package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
)

// machine is a directory that stands for the machine's disks.
type machine struct {
	*testing.T
	files  files
	client config.Client
}

func newMachine(t *testing.T) *machine {
	dir := t.TempDir()
	m := &machine{T: t, files: files{filepath.Join(dir, "boot.yaml"), filepath.Join(dir, "kept.yaml")}}
	m.restart()
	return m
}

// restart serves from a new process that knows only the files.
func (m *machine) restart() {
	s := newServer(m.files, slog.New(slog.DiscardHandler))
	may := map[string][]string{config.Service: {"GetConfig", "GetNetwork", "GetTime", "GetKubernetes"}}
	m.client = config.NewClient(ipctest.Pair(m.T, may, func(r ipc.Registrar) { config.Register(r, s) }))
}

func (m *machine) put(path, content string) {
	m.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) want(source, hostname, problem string) {
	m.Helper()
	c, err := m.client.GetConfig(m.Context(), &config.GetConfigRequest{})
	if err != nil {
		m.Fatal(err)
	}
	n, err := m.client.GetNetwork(m.Context(), &config.GetNetworkRequest{})
	if err != nil {
		m.Fatal(err)
	}
	if c.Source != source || n.Hostname != hostname || !strings.Contains(c.Error, problem) || (problem == "") != (c.Error == "") {
		m.Errorf("source %q, hostname %q, error %q; want %q, %q, %q", c.Source, n.Hostname, c.Error, source, hostname, problem)
	}
}

func TestNoFileMeansDefaults(t *testing.T) {
	m := newMachine(t)
	m.want("default", "", "")
	got, err := m.client.GetTime(t.Context(), &config.GetTimeRequest{})
	if err != nil || !slices.Equal(got.Servers, defaultTimeServers) {
		t.Errorf("time servers %v, %v", got, err)
	}
}

func TestAFileThatComesLateIsTakenAndKept(t *testing.T) {
	m := newMachine(t)
	m.want("default", "", "")
	m.put(m.files.boot, "hostname: late\n")
	m.want("boot", "late", "")
	if kept, _ := os.ReadFile(m.files.kept); string(kept) != "hostname: late\n" {
		t.Errorf("kept: %q", kept)
	}
}

func TestTheLastGoodOneStaysInForce(t *testing.T) {
	m := newMachine(t)
	m.put(m.files.boot, "hostname: good\n")
	m.want("boot", "good", "")
	m.put(m.files.boot, "hostname: good\nhostnam: typo\n")
	m.want("state", "good", "boot.yaml:2:1: hostnam: unknown key")
	m.restart()
	m.want("state", "good", "boot.yaml:2:1: hostnam: unknown key")
	os.Remove(m.files.boot)
	m.want("state", "good", "")
}

func TestTwoBadFilesMeanDefaults(t *testing.T) {
	m := newMachine(t)
	m.put(m.files.boot, "a: b\n")
	m.put(m.files.kept, "c: d\n")
	m.want("default", "", "unknown key")
}

func TestADiskThatCannotBeWrittenIsNoReasonToIgnoreAFile(t *testing.T) {
	m := newMachine(t)
	m.files.kept = filepath.Join(t.TempDir(), "missing", "kept.yaml")
	m.restart()
	m.put(m.files.boot, "hostname: here\n")
	m.want("boot", "here", "")
}

func TestNothingIsLeftBesideTheKeptFile(t *testing.T) {
	m := newMachine(t)
	m.put(m.files.boot, "hostname: good\n")
	m.want("boot", "good", "")
	entries, err := os.ReadDir(filepath.Dir(m.files.kept))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestNetworkIsHandedOn(t *testing.T) {
	m := newMachine(t)
	m.put(m.files.boot, `
network:
  interfaces:
    - {name: eth0, dhcp: true}
    - {name: eth1, addresses: [192.168.7.10/24, fd00:7::10/64], gateway: 192.168.7.1}
  nameservers: [192.168.7.1]
`)
	n, err := m.client.GetNetwork(t.Context(), &config.GetNetworkRequest{})
	if err != nil {
		t.Fatal(err)
	}
	eth0, eth1 := n.Interfaces[0], n.Interfaces[1]
	if !eth0.Dhcp || eth1.Dhcp || eth1.Gateway != "192.168.7.1" || len(eth1.Addresses) != 2 || n.Nameservers[0] != "192.168.7.1" {
		t.Errorf("%v", n)
	}
}

func TestKubernetesIsHandedOn(t *testing.T) {
	m := newMachine(t)
	none, err := m.client.GetKubernetes(t.Context(), &config.GetKubernetesRequest{})
	if err != nil || none.Configured {
		t.Errorf("without a section: %v, %v", none, err)
	}
	m.put(m.files.boot, "kubernetes: {cluster: home, extraArgs: {kubelet: {v: 4}}}\n"+
		"registries: {proxy: {url: 'http://p:1', except: [a]}, hosts: [{name: r, mirrors: [m]}, {name: h, http: true}]}\n")
	k, err := m.client.GetKubernetes(t.Context(), &config.GetKubernetesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !k.Configured || k.Cluster != "home" || k.PodNetwork != "10.244.0.0/16" || k.ServiceNetwork != "10.96.0.0/16" ||
		k.Role != config.NodeRole_NODE_ROLE_CONTROL_PLANE || k.ExtraArgs["kubelet"].GetValues()["v"] != "4" {
		t.Errorf("%v", k)
	}
	r := k.Registries
	if r.Proxy != "http://p:1" || r.ProxyExcept[0] != "a" || r.Hosts[0].Name != "r" || r.Hosts[0].Mirrors[0] != "m" || !r.Hosts[1].Http {
		t.Errorf("%v", r)
	}
	n, err := m.client.GetNetwork(t.Context(), &config.GetNetworkRequest{})
	if err != nil || !slices.Equal(n.Inside, []string{k.PodNetwork, k.ServiceNetwork}) {
		t.Errorf("networkd is told of %v, %v", n, err)
	}
}
