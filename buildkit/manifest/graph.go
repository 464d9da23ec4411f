package manifest

import (
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
		own := "own user namespace"
		if len(m.Capabilities) > 0 || len(m.Mount) > 0 {
			own = "the machine's user namespace"
		}
		fmt.Fprintf(w, "\n%s  user %d, tier %d, %s, %s memory\n", m.Name, m.User, m.Tier, own, m.Limits.Memory)
		if m.Provides != "" {
			fmt.Fprintf(w, "  provides      %s\n", m.Provides)
		}
		for _, t := range []struct {
			table  string
			rights map[string]string
		}{
			{"capability", m.Capabilities}, {"device", m.Devices}, {"read", m.Read}, {"write", m.Write},
			{"mount", m.Mount}, {"network", m.Network}, {"listen", m.Listen}, {"syscalls", m.Syscalls},
		} {
			for _, key := range sortedKeys(t.rights) {
				fmt.Fprintf(w, "  %-13s %-22s %s\n", t.table, key, t.rights[key])
			}
		}
		if m.Logs != "" {
			fmt.Fprintf(w, "  %-13s %-22s %s\n", "logs", "all", m.Logs)
		}
		if m.Gateway != "" {
			fmt.Fprintf(w, "  %-13s %-22s %s\n", "gateway", "all with a role", m.Gateway)
		}
		for _, s := range b.Services {
			if methods := b.mayCall(m, s); len(methods) > 0 {
				fmt.Fprintf(w, "  calls         %-22s %s\n", s.Short+" ("+b.callee(s.Short)+")", strings.Join(methods, ", "))
			}
		}
	}
	fmt.Fprintf(w, "\nFrom outside, through the gateway:\n")
	for _, r := range b.Routes().Routes {
		fmt.Fprintf(w, "  %-9s %s\n", r.Role, r.Path)
	}
}
