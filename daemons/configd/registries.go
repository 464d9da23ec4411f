package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// registries are where images are pulled from, as far as the file says anything of it.
type registries struct {
	hosts []registry
	proxy proxy
}

// registry is how one registry is reached.
type registry struct {
	name    string   // HOST or HOST:PORT, as in an image's name; "*" is each that has no entry
	mirrors []string // HOST, HOST:PORT, or one of them with a path; asked first, in this order
	ca      string   // PEM
	http    bool     // without TLS
}

// proxy is what registries are reached through.
type proxy struct {
	url    string   // http://HOST:PORT or https://HOST:PORT; empty: none
	except []string // hosts, domains, addresses and networks that are reached without it
}

// everyRegistry is the name of the entry for registries without one.
const everyRegistry = "*"

func (d *decoder) registries(s *settings) reader {
	return func(n node, path string) error {
		return d.mapping(n, path, []key{
			{"hosts", d.list(func(n node, path string) error {
				r, err := d.registry(n, path)
				if err != nil {
					return err
				}
				for _, other := range s.registries.hosts {
					if other.name == r.name {
						return d.mistake(n, path, "%s stands here twice: want one entry for each registry", r.name)
					}
				}
				s.registries.hosts = append(s.registries.hosts, r)
				return nil
			})},
			{"proxy", d.proxy(&s.registries.proxy)},
		})
	}
}

func (d *decoder) registry(n node, path string) (registry, error) {
	var r registry
	err := d.mapping(n, path, []key{
		{"name", d.text(&r.name, checkRegistry)},
		{"mirrors", d.list(func(n node, path string) error {
			var m string
			if err := d.text(&m, checkMirror)(n, path); err != nil {
				return err
			}
			for _, other := range r.mirrors {
				if other == m {
					return d.mistake(n, path, "%s stands here twice: want each mirror once", m)
				}
			}
			r.mirrors = append(r.mirrors, m)
			return nil
		})},
		{"ca", d.authorities(&r.ca)},
		{"http", d.boolean(&r.http)},
	})
	if err != nil {
		return r, err
	}
	if wrong := r.wrong(); wrong != "" {
		return r, d.mistake(n, path, "%s", wrong)
	}
	return r, nil
}

// wrong says what cannot work in one entry, and what would be right.
func (r registry) wrong() string {
	switch {
	case r.name == "":
		return `no name: want the registry as images' names begin, such as "name: registry.example.org:5000"`
	case r.http && r.ca != "":
		return "both http and ca: want one of them (there is no certificate without TLS)"
	case r.name == everyRegistry && (r.http || r.ca != ""):
		return "http and ca of every registry: want them in an entry for each registry that needs them"
	case len(r.mirrors) == 0 && r.ca == "" && !r.http:
		return "nothing but a name: want mirrors, ca or http"
	}
	for _, m := range r.mirrors {
		if m == r.name {
			return fmt.Sprintf("%s is its own mirror: want another registry", m)
		}
	}
	return ""
}

// authorities reads certificates in PEM, and nothing else: above all no key.
func (d *decoder) authorities(into *string) reader {
	return func(n node, path string) error {
		if err := d.kind(n, path, yaml.ScalarNode, "!!str", "certificates in PEM"); err != nil {
			return err
		}
		var out strings.Builder
		rest := []byte(n.Value)
		for count := 1; ; count++ {
			block, after := pem.Decode(rest)
			switch {
			case block == nil && count == 1:
				return d.mistake(n, path, `no certificate: want PEM, from "-----BEGIN CERTIFICATE-----" on, as a block of text after "|"`)
			case block == nil && len(strings.TrimSpace(string(rest))) > 0:
				return d.mistake(n, path, "text that is no PEM follows certificate %d: want certificates only", count-1)
			case block == nil:
				*into = out.String()
				return nil
			case block.Type != "CERTIFICATE":
				return d.mistake(n, path, "PEM block %d is %s: want certificates only (a key is a secret, and this file holds none)", count, strconv.Quote(block.Type))
			}
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				return d.mistake(n, path, "certificate %d: %s: want the CA's certificate as it is", count, strings.ReplaceAll(err.Error(), "\n", " "))
			}
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
			rest = after
		}
	}
}

func (d *decoder) proxy(into *proxy) reader {
	return func(n node, path string) error {
		err := d.mapping(n, path, []key{
			{"url", d.text(&into.url, checkProxy)},
			{"except", d.list(func(n node, path string) error {
				var e string
				err := d.text(&e, checkException)(n, path)
				into.except = append(into.except, e)
				return err
			})},
		})
		if err == nil && into.url == "" {
			return d.mistake(n, path, `no url: want the proxy, such as "url: http://proxy.example.org:3128"`)
		}
		return err
	}
}

// checkRegistry wants what an image's name can begin with.
func checkRegistry(s string) string {
	const want = `want a registry as images' names begin, such as docker.io or registry.example.org:5000, or "*" for every other one`
	if s == everyRegistry || isHostPort(s) {
		return ""
	}
	return want
}

func checkMirror(s string) string {
	const want = "want a registry without https://, such as mirror.example.org:5000 or harbor.example.org/docker-hub"
	host, below, _ := strings.Cut(s, "/")
	if !isHostPort(host) || strings.Contains(s, "/") && (below == "" || path.Clean("/"+below) != "/"+below) {
		return want
	}
	for _, c := range below {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._-", c)) {
			return want
		}
	}
	return ""
}

// isHostPort wants a name or an address in lower case, as image names have them, and
// takes a port.
func isHostPort(s string) bool {
	host := s
	if strings.HasPrefix(s, "[") || strings.Count(s, ":") == 1 {
		h, port, err := net.SplitHostPort(s)
		if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return false
		}
		host = h
		if a, err := netip.ParseAddr(h); (err == nil && a.Is6()) != strings.HasPrefix(s, "[") {
			return false
		}
	} else if strings.Contains(s, ":") {
		return false // an IPv6 address without brackets
	}
	return checkServer(host) == "" && host == strings.ToLower(host) && !strings.HasSuffix(host, ".") && !strings.Contains(host, "%")
}

func checkProxy(s string) string {
	const want = "want http://HOST:PORT or https://HOST:PORT"
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return want
	case u.User != nil:
		return want + ", without a name and a password: this file holds no secret"
	case u.Port() == "" || !isHostPort(strings.ToLower(u.Host)):
		return want
	}
	return ""
}

// checkException wants what NO_PROXY can hold.
func checkException(s string) string {
	if p, err := netip.ParsePrefix(s); err == nil && p.Masked() == p {
		return ""
	}
	if s != "" && checkServer(strings.TrimPrefix(s, ".")) == "" && !strings.Contains(s, "%") {
		return ""
	}
	return "want a host, a domain (with all below it), an IP address or a network"
}
