package manifest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// granted is a path that a table grants.
type granted struct{ table, path string }

func (m *Manifest) paths() []granted {
	var all []granted
	for _, t := range m.tables() {
		switch t.name {
		case "run", "read", "write", "mount":
			for _, path := range sortedKeys(t.rights) {
				all = append(all, granted{t.name, path})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b granted) int { return cmp.Compare(a.path, b.path) })
	return all
}

// in tells whether path is dir or below it.
func in(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func overlap(a, b string) bool { return in(a, b) || in(b, a) }

// others are places whose content PID 1 puts together itself.
var others = []struct{ path, instead string }{
	{abi.SocketDir, "name the service in [calls]"},
	{abi.ShareDir, "name who writes it in [from]"},
	{"/dev", "name the node in [devices]"},
}

// hidden is what no pod may see, be it a privileged one with a hostPath of /.
var hidden = []string{"/boot", "/state", "/etc/dactyl", abi.DaemonDir, "/var/lib/dactyl"}

// checkPaths sees that each path is granted once: of two mounts of which one hides
// the other, the order would decide what a daemon may do.
func (m *Manifest) checkPaths(wrong wrong) {
	all := m.paths()
	for i, g := range all {
		for _, o := range others {
			if overlap(g.path, o.path) {
				wrong("[%s] %s: PID 1 makes %s for each daemon: %s", g.table, g.path, o.path, o.instead)
			}
		}
		for _, h := range hidden {
			if m.Domain != "" && overlap(g.path, h) {
				wrong("[%s] %s: pods must not see %s", g.table, g.path, h)
			}
		}
		for _, above := range all[:i] {
			if in(g.path, above.path) {
				wrong("[%s] %s is in [%s] %s already: keep the one that %s needs", g.table, g.path, above.table, above.path, m.Name)
			}
		}
	}
}

// checkWriters sees that nobody writes where another does: each would have to
// trust the other's files.
func checkWriters(all []*Manifest) []error {
	var errs []error
	for i, m := range all {
		for _, other := range all[:i] {
			for _, path := range sortedKeys(m.Write) {
				for _, theirs := range sortedKeys(other.Write) {
					if overlap(path, theirs) {
						errs = append(errs, m.errorf("[write] %s: %s writes %s: a directory has one writer", path, other.Name, theirs))
					}
				}
			}
		}
	}
	return errs
}
