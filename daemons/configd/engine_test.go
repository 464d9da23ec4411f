package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFiles reads testdata/*.txt: cases that begin with "== name", then the YAML
// as it would be written, then "=> " and what comes of it.
func TestFiles(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range scripts {
		script, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, story := range strings.Split(string(script), "\n== ") {
			if i == 0 {
				continue // the script's comment
			}
			name, rest, _ := strings.Cut(story, "\n")
			t.Run(filepath.Base(path)+"/"+name, func(t *testing.T) {
				yaml, want, found := strings.Cut(rest, "=> ")
				if !found {
					t.Fatal("no => line")
				}
				if got, want := outcome(yaml), strings.TrimSpace(want); got != want {
					t.Errorf("%s\ngot  %s\nwant %s", yaml, got, want)
				}
			})
		}
	}
}

func outcome(yaml string) string {
	s, err := parse("cluster.yaml", []byte(yaml))
	if err != nil {
		return strings.TrimPrefix(err.Error(), "cluster.yaml:")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "hostname %q, nameservers %v, time %v", s.hostname, s.nameservers, s.timeServers)
	for _, i := range s.interfaces {
		fmt.Fprintf(&b, "; %s dhcp %t %v", i.name, i.dhcp, i.addresses)
		if i.gateway.IsValid() {
			fmt.Fprintf(&b, " via %v", i.gateway)
		}
	}
	if k := s.kubernetes; k != nil {
		fmt.Fprintf(&b, "; kubernetes %q, pods %v, services %v, %s %v", k.cluster, k.podNetwork, k.serviceNetwork, k.role, k.extraArgs)
	}
	for _, h := range s.registries.hosts {
		fmt.Fprintf(&b, "; registry %s, mirrors %v, http %t, %d certificates", h.name, h.mirrors, h.http, strings.Count(h.ca, "BEGIN CERTIFICATE"))
	}
	if p := s.registries.proxy; p.url != "" {
		fmt.Fprintf(&b, "; proxy %s except %v", p.url, p.except)
	}
	return b.String()
}

// FuzzParse looks for input that stops configd, is refused without a place, or
// is taken although it means nothing.
func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"))
	f.Add([]byte("hostname: !!binary aGk=\n"))
	f.Add([]byte("---\n...\n---\n"))
	f.Add([]byte("\xff\xfe:\x00 \x00"))
	f.Add([]byte("? [a]\n: b\n<<: {hostname: x}\n"))
	f.Add([]byte("network: {interfaces: [{name: eth0, dhcp: yes}]}"))
	f.Add([]byte("kubernetes: {podNetwork: 10.0.0.0/8, extraArgs: {kubelet: {v: 4, x: [a]}}}"))
	f.Add([]byte("time:\n\tservers: [a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parse("f", data)
		var m *mistake
		switch {
		case err != nil && !errors.As(err, &m):
			t.Fatalf("error without a place: %v", err)
		case err != nil && strings.ContainsAny(err.Error(), "\n\r"):
			t.Fatalf("more than one line: %q", err)
		case err == nil && len(s.timeServers) == 0:
			t.Fatal("no time server")
		case err == nil && checkHostname(s.hostname) != "" && s.hostname != "":
			t.Fatalf("hostname %q", s.hostname)
		}
		for _, i := range s.interfaces {
			if i.wrong(true) != "" || checkLinkName(i.name) != "" {
				t.Fatalf("interface %+v", i)
			}
		}
		if k := s.kubernetes; k != nil && (k.podNetwork.Overlaps(k.serviceNetwork) || checkCluster(k.cluster) != "") {
			t.Fatalf("kubernetes %+v", k)
		}
	})
}

const sample = `# One machine with a fixed address.
hostname: kitchen
network:
  interfaces:
    - name: eth0
      addresses: [192.168.7.10/24, fd00:7::10/64]
      gateway: 192.168.7.1
  nameservers: [192.168.7.1]
time:
  servers: [time.cloudflare.com, 192.168.7.1]
`
