package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxBytes is far more than a cluster's description needs. The parser needs up to a
// hundred times as much memory for what is short and has many values, such as a list
// of zeros, and configd has 32 MiB.
const maxBytes = 64 << 10

// mistake is what is wrong in a file, where, and what would be right.
type mistake struct {
	file         string
	line, column int    // from 1; 0 when the file as a whole is meant
	path         string // network.interfaces[0].dhcp; empty: the whole file
	problem      string
}

func (m *mistake) Error() string {
	var b strings.Builder
	b.WriteString(m.file)
	if m.line > 0 {
		fmt.Fprintf(&b, ":%d:%d", m.line, m.column)
	}
	b.WriteString(": ")
	if m.path != "" {
		b.WriteString(m.path + ": ")
	}
	b.WriteString(m.problem)
	return b.String()
}

type node = *yaml.Node

// document returns the file's one value, or nil when it says nothing.
func document(file string, data []byte) (node, error) {
	if len(data) > maxBytes {
		return nil, &mistake{file: file, problem: fmt.Sprintf("%d bytes: want %d at most", len(data), maxBytes)}
	}
	parser := yaml.NewDecoder(bytes.NewReader(undirected(data)))
	var doc, more yaml.Node
	switch err := parser.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntax(file, data, err)
	}
	switch err := parser.Decode(&more); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, syntax(file, data, err)
	default:
		return nil, &mistake{file, more.Line, more.Column, "", "a second document: want one"}
	}
	return doc.Content[0], nil
}

// undirected makes a comment of a first line that says %YAML 1.2, which the library does
// not take although it is what this file is read as. Lines and columns stay as they are.
func undirected(data []byte) []byte {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	if words := bytes.Fields(first); len(words) < 2 || string(words[0]) != "%YAML" || string(words[1]) != "1.2" || first[0] != '%' {
		return data
	}
	plain := bytes.Clone(data)
	plain[0] = '#'
	return plain
}

// syntax turns the YAML library's "yaml: line 3: text" into a mistake. It does
// not tell columns, so the line's first character is named.
func syntax(file string, data []byte, err error) error {
	m := &mistake{file: file, line: 1, column: 1, problem: strings.TrimPrefix(err.Error(), "yaml: ")}
	if rest, ok := strings.CutPrefix(m.problem, "line "); ok {
		number, text, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			m.line, m.problem = n, text
		}
	}
	if lines := bytes.Split(data, []byte("\n")); m.line <= len(lines) {
		line := lines[m.line-1]
		m.column = len(line) - len(bytes.TrimLeft(line, " ")) + 1
	}
	m.problem = "not YAML: " + strings.ReplaceAll(m.problem, "\n", " ")
	return m
}

// reader takes the value of the key at path.
type reader func(n node, path string) error

type key struct {
	name string
	read reader
}

// decoder holds what all readers need for their messages.
type decoder struct {
	file    string
	servers []server1
}

// server1 is an address of a server and where it stands: whether it can be one shows
// when all of the file is read.
type server1 struct {
	address netip.Addr
	at      node
	path    string
}

func (d *decoder) mistake(n node, path, format string, args ...any) error {
	return &mistake{d.file, n.Line, n.Column, path, fmt.Sprintf(format, args...)}
}

// mapping reads the known keys of a mapping, in the order of the file.
func (d *decoder) mapping(n node, path string, known []key) error {
	if err := d.kind(n, path, yaml.MappingNode, "!!map", "keys with values"); err != nil {
		return err
	}
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := join(path, name.Value)
		read := find(known, name)
		if read == nil {
			return d.mistake(name, at, "unknown key: want one of %s", names(known))
		}
		if line, twice := seen[name.Value]; twice {
			return d.mistake(name, at, "stands on line %d already: want it once", line)
		}
		seen[name.Value] = name.Line
		if err := read(value, at); err != nil {
			return err
		}
	}
	return nil
}

func find(known []key, name node) reader {
	for _, k := range known {
		if name.Kind == yaml.ScalarNode && k.name == name.Value && name.Anchor == "" {
			return k.read
		}
	}
	return nil
}

func names(known []key) string {
	var all []string
	for _, k := range known {
		all = append(all, k.name)
	}
	return strings.Join(all, ", ")
}

func join(path, name string) string {
	name = strconv.Quote(name)
	name = name[1 : len(name)-1] // one line, whatever the key
	if path == "" {
		return name
	}
	return path + "." + name
}

// list reads a list of at least one value.
func (d *decoder) list(each reader) reader {
	return func(n node, path string) error {
		if err := d.kind(n, path, yaml.SequenceNode, "!!seq", "a list"); err != nil {
			return err
		}
		if len(n.Content) == 0 {
			return d.mistake(n, path, "an empty list: leave the key out for the default")
		}
		for i, value := range n.Content {
			if err := each(value, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	}
}

// text reads a string; check returns what is wanted when it is not fit.
func (d *decoder) text(into *string, check func(string) string) reader {
	return func(n node, path string) error {
		if err := d.kind(n, path, yaml.ScalarNode, "!!str", "text"); err != nil {
			return err
		}
		if want := check(n.Value); want != "" {
			return d.mistake(n, path, "%q: %s", n.Value, want)
		}
		*into = n.Value
		return nil
	}
}

func (d *decoder) boolean(into *bool) reader {
	return func(n node, path string) error {
		if err := d.kind(n, path, yaml.ScalarNode, "!!bool", "true or false"); err != nil {
			return err
		}
		// YAML 1.1's yes and on are text here; True and TRUE would do no harm but
		// are one more way to write the same.
		if n.Value != "true" && n.Value != "false" {
			return d.mistake(n, path, "%q: want true or false", n.Value)
		}
		*into = n.Value == "true"
		return nil
	}
}

// mtu reads the size of a link's packets: the least that every IPv4 host takes (RFC 791)
// up to the largest that IP has. What a link can do is the link's to say.
func (d *decoder) mtu(into *int) reader {
	return func(n node, path string) error {
		const want = "a number of bytes from 576 to 65535, such as 1400"
		if err := d.kind(n, path, yaml.ScalarNode, "!!int", want); err != nil {
			return err
		}
		mtu, err := strconv.Atoi(n.Value)
		if err != nil || mtu < 576 || mtu > 65535 {
			return d.mistake(n, path, "%s: want %s", n.Value, want)
		}
		*into = mtu
		return nil
	}
}

func (d *decoder) address(into *netip.Addr) reader {
	return func(n node, path string) error {
		if err := d.kind(n, path, yaml.ScalarNode, "!!str", "an IP address"); err != nil {
			return err
		}
		a, err := netip.ParseAddr(n.Value)
		if err != nil || !isHost(a) {
			return d.mistake(n, path, "%q: want the IP address of a host, such as 192.168.7.1", n.Value)
		}
		*into = a
		return nil
	}
}

func (d *decoder) prefix(into *netip.Prefix) reader {
	return func(n node, path string) error {
		if err := d.kind(n, path, yaml.ScalarNode, "!!str", "an IP address with its prefix length"); err != nil {
			return err
		}
		if a, err := netip.ParseAddr(n.Value); err == nil {
			return d.mistake(n, path, "%s has no prefix length: want it after a slash, such as %s/%d", a, a, a.BitLen()*3/4)
		}
		p, err := netip.ParsePrefix(n.Value)
		if err != nil || !isHost(p.Addr()) || p.Bits() == 0 {
			return d.mistake(n, path, "%q: want an IP address with its prefix length, such as 192.168.7.10/24", n.Value)
		}
		if first := p.Masked().Addr(); first == p.Addr() && p.Bits() < p.Addr().BitLen()-1 {
			return d.mistake(n, path, "%s is the whole network: want this machine's address in it", p)
		}
		if p.Addr() == broadcast(p) {
			return d.mistake(n, path, "%s is the network's broadcast address: want this machine's address in it", p)
		}
		*into = p
		return nil
	}
}

// broadcast is the last address of an IPv4 network, by which all of its machines are
// reached; the zero address for a network that has none.
func broadcast(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}
	}
	last := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(last)
}

// isHost tells addresses that one machine can have on a link.
func isHost(a netip.Addr) bool {
	everybody := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != everybody
}

// kind wants a node of this kind and type, written out where it stands.
func (d *decoder) kind(n node, path string, kind yaml.Kind, tag, want string) error {
	switch {
	case n.Kind == yaml.AliasNode, n.Anchor != "":
		return d.mistake(n, path, "anchors and aliases are not taken: want the value itself")
	case n.Style&yaml.TaggedStyle != 0:
		return d.mistake(n, path, "tag %s: want the value without a tag", strconv.Quote(n.Tag))
	case n.ShortTag() == "!!null":
		return d.mistake(n, path, "no value: want %s, or the key left out", want)
	case n.Kind != kind || n.ShortTag() != tag:
		return d.mistake(n, path, "%s: want %s", describe(n), want)
	}
	return nil
}

// describe says in a word or two what a value of the wrong type is.
func describe(n node) string {
	switch n.ShortTag() {
	case "!!map":
		return "keys with values"
	case "!!seq":
		return "a list"
	case "!!str":
		return "the text " + strconv.Quote(n.Value)
	case "!!bool":
		return "the truth value " + n.Value + " (in quotes it would be text)"
	default:
		return "the number or date " + strconv.Quote(n.Value) + " (in quotes it would be text)"
	}
}
