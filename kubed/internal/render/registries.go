package render

import (
	"fmt"
	"path"
	"strings"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// Registries are where images are pulled from, as cluster.yaml says; configd has
// checked it.
type Registries struct {
	Hosts       []Registry
	Proxy       string   // http://HOST:PORT or https://HOST:PORT; empty: none
	ProxyExcept []string // hosts, domains, addresses and networks that are reached without it
}

// Registry is how one registry is reached.
type Registry struct {
	Name    string   // HOST or HOST:PORT; "*": each that has no entry
	Mirrors []string // HOST, HOST:PORT, or one of them with a path; asked first
	CA      string   // PEM
	HTTP    bool     // without TLS
}

// hostsDir has a folder for each registry. containerd reads it at each pull.
const hostsDir = "certs.d"

// mirrorTimeout is how long a mirror may take to accept a connection until the next one
// is asked. Each layer begins with the first mirror again.
const mirrorTimeout = "5s"

// hostsPath is the folder as containerd sees it.
var hostsPath = path.Join(abi.ShareDir, "kubed", domain, hostsDir)

// registries adds what containerd is told of each registry: containerd's hosts.toml, and
// the CA next to it.
func (d *draft) registries(r Registries) {
	for _, h := range r.Hosts {
		if h.CA != "" {
			d.live(path.Join(hostsDir, folder(h.Name), "ca.crt"), h.CA)
		}
	}
	for _, h := range r.Hosts {
		d.live(path.Join(hostsDir, folder(h.Name), "hosts.toml"), r.hostsFile(h))
	}
}

// folder is the name under which containerd looks for a registry: HOST_PORT_.
func folder(registry string) string {
	if registry == "*" {
		return "_default"
	}
	if i := strings.LastIndex(registry, ":"); i > 0 {
		return registry[:i] + "_" + registry[i+1:] + "_"
	}
	return registry
}

func (r Registries) hostsFile(h Registry) string {
	var b strings.Builder
	// Without a server containerd takes the one that the name stands for.
	if h.HTTP || h.CA != "" {
		fmt.Fprintf(&b, "server = %q\n", h.scheme()+"://"+server(h.Name))
	}
	if h.CA != "" {
		fmt.Fprintf(&b, "ca = %q\n", "ca.crt")
	}
	for _, m := range h.Mirrors {
		host, below, _ := strings.Cut(m, "/")
		as := r.host(host)
		url := as.scheme() + "://" + server(host)
		if below != "" {
			url += "/v2/" + below
		}
		fmt.Fprintf(&b, "\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = %q\n", url, mirrorTimeout)
		if below != "" {
			b.WriteString("  override_path = true\n")
		}
		if as.CA != "" {
			fmt.Fprintf(&b, "  ca = %q\n", path.Join(hostsPath, folder(host), "ca.crt"))
		}
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// host is the entry of a registry; without one it is reached over TLS.
func (r Registries) host(name string) Registry {
	for _, h := range r.Hosts {
		if h.Name == name {
			return h
		}
	}
	return Registry{Name: name}
}

func (h Registry) scheme() string {
	if h.HTTP {
		return "http"
	}
	return "https"
}

// server is the machine that answers for a registry.
func server(registry string) string {
	if registry == "docker.io" {
		return "registry-1.docker.io"
	}
	return registry
}

// proxyEnvironment is what containerd's process finds in its environment: how all
// programs in Go learn of a proxy. The cluster's own addresses need none.
func proxyEnvironment(n Node) string {
	own := []string{"localhost", "127.0.0.0/8", "::1", ".svc", "." + clusterDomain, n.PodNetwork.String(), n.ServiceNetwork.String()}
	except := strings.Join(append(own, n.Registries.ProxyExcept...), ",")
	return fmt.Sprintf("HTTPS_PROXY=%s\nHTTP_PROXY=%s\nNO_PROXY=%s\n", n.Registries.Proxy, n.Registries.Proxy, except)
}
