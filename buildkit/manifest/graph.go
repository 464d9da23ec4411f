package manifest

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// WriteGraph prints every authority in the image for people: each daemon's
// rights with their reasons, and who may call what. A copy of it is committed,
// so that a change of authority is a change in a diff.
func (b *Build) WriteGraph(w io.Writer) {
	fmt.Fprintf(w, "Authority graph (%s image): each daemon's rights with their reasons, and whom it may call.\n", b.Mode)
	fmt.Fprintf(w, "Made by `make graph` from every daemon.toml; do not edit.\n")
	for _, m := range b.Manifests {
		b.writeDaemon(w, m)
	}
	fmt.Fprintf(w, "\nFrom outside, through the gateway:\n")
	for _, r := range b.Routes().Routes {
		fmt.Fprintf(w, "  %-9s %s\n", r.Role, r.Path)
	}
}

func (b *Build) writeDaemon(w io.Writer, m *Manifest) {
	memory := m.Limits.Memory + " memory"
	if m.Limits.Memory == "none" {
		memory = "no limit of memory"
	}
	fmt.Fprintf(w, "\n%s  user %d, tier %d, %s, %s\n", m.Name, m.User, m.Tier, m.place(), memory)
	line := func(what, which, why string) {
		if why != "" {
			fmt.Fprintf(w, "  %-13s %-22s %s\n", what, which, why)
		}
	}
	if m.Provides != "" {
		fmt.Fprintf(w, "  provides      %s\n", m.Provides)
	}
	if m.Foreign() {
		line("program", m.Program, "as "+strings.Join(append([]string{cmp.Or(m.At, m.Program)}, m.Args...), " "))
	}
	line("started", "on request", m.Request)
	line("restarted", "alone", m.Alone)
	for _, t := range m.tables() {
		for _, key := range sortedKeys(t.rights) {
			why := t.rights[key]
			if t.name == "write" {
				why += m.directories[key].lifetime()
			}
			line(singular(t.name), key, why)
		}
	}
	line("logs", "all", m.Logs)
	line("gateway", "all with a role", m.Gateway)
	for _, s := range b.Services {
		line("calls", s.Short+" ("+b.callee(s.Short)+")", strings.Join(b.mayCall(m, s), ", "))
	}
}

// place says where m's rights count.
func (m *Manifest) place() string {
	switch {
	case m.leads():
		return "makes the domain " + m.Domain
	case m.follows():
		return "in the domain " + m.Domain
	case m.userNS():
		return "own user namespace"
	}
	return "the machine's user namespace"
}

func singular(table string) string {
	switch table {
	case "capabilities":
		return "capability"
	case "devices":
		return "device"
	}
	return table
}
