package manifest

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dactyl-os/dactyl/daemons/kit"
)

// PID 1 serves the services that no daemon provides.
var initServices = []string{"dev", "machine", "probe"}

const initName = "init"

var (
	namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{1,30}$`)
	// mayHave are the capabilities that a daemon may ask for at all. What is not
	// here would make confinement meaningless (SYS_PTRACE, SYS_MODULE, DAC_OVERRIDE …).
	mayHave = []string{"NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW", "SYSLOG", "SYS_ADMIN", "SYS_RESOURCE", "SYS_TIME"}
)

const (
	firstUser, lastUser = 100, 199 // of daemons
	lastTier            = 9
)

// check looks at each manifest alone and at all of them together.
func check(all []*Manifest, services []Service) error {
	var errs []error
	users, names, providers := map[uint32]string{}, map[string]*Manifest{}, map[string]*Manifest{}
	for _, m := range all {
		errs = append(errs, m.check()...)
		if other, twice := users[m.User]; twice {
			errs = append(errs, m.errorf("user = %d is %s's already: take a free one from %d to %d", m.User, other, firstUser, lastUser))
		}
		users[m.User] = m.Name
		if names[m.Name] != nil {
			errs = append(errs, m.errorf("name = %q is taken by %s", m.Name, names[m.Name].Path))
		}
		names[m.Name] = m
		if m.Provides == "" {
			continue
		}
		if find(services, m.Provides) == nil || slices.Contains(initServices, m.Provides) {
			errs = append(errs, m.errorf("provides = %q: no such service for a daemon in ipc/ (%s)", m.Provides, shorts(services)))
		}
		if other := providers[m.Provides]; other != nil {
			errs = append(errs, m.errorf("provides = %q: %s does already", m.Provides, other.Name))
		}
		providers[m.Provides] = m
	}
	for _, m := range all {
		errs = append(errs, m.checkCalls(services, providers)...)
	}
	return errors.Join(errs...)
}

func (m *Manifest) errorf(format string, a ...any) error {
	return fmt.Errorf("%s: %s", m.Path, fmt.Sprintf(format, a...))
}

func (m *Manifest) check() []error {
	var errs []error
	wrong := func(format string, a ...any) { errs = append(errs, m.errorf(format, a...)) }
	if !namePattern.MatchString(m.Name) {
		wrong("name = %q: lower-case letters, digits and hyphens, such as \"networkd\"", m.Name)
	}
	if m.User < firstUser || m.User > lastUser {
		wrong("user = %d: daemons have %d to %d", m.User, firstUser, lastUser)
	}
	if m.Tier < 1 || m.Tier > lastTier {
		wrong("tier = %d: 1 to %d", m.Tier, lastTier)
	}
	if m.Only != "" && m.Only != "dev" && m.Only != "test" {
		wrong("only = %q: \"dev\" or \"test\"", m.Only)
	}
	for _, t := range []struct {
		table  string
		rights map[string]string
		check  func(key string) string // what would be right, or ""
	}{
		{"capabilities", m.Capabilities, oneOf(mayHave)},
		{"devices", m.Devices, devicePattern},
		{"read", m.Read, absolute},
		{"write", m.Write, absolute},
		{"mount", m.Mount, absolute},
		{"network", m.Network, oneOf([]string{"host"})},
		{"listen", m.Listen, tcpAddress},
		{"syscalls", m.Syscalls, oneOf(kit.Sets())},
	} {
		for _, key := range sortedKeys(t.rights) {
			if right := t.check(key); right != "" {
				wrong("[%s] %s: %s", t.table, key, right)
			}
			if strings.TrimSpace(t.rights[key]) == "" {
				wrong("[%s] %s has no reason: write %s = \"why %s needs it\"", t.table, key, strconv.Quote(key), m.Name)
			}
		}
	}
	if _, err := memory(m.Limits.Memory); err != nil {
		wrong("[limits] memory = %q: %v", m.Limits.Memory, err)
	}
	if m.Limits.PIDs < 8 || m.Limits.PIDs > 4096 {
		wrong("[limits] pids = %d: 8 (a Go program's threads) to 4096", m.Limits.PIDs)
	}
	return errs
}

func (m *Manifest) checkCalls(services []Service, providers map[string]*Manifest) []error {
	var errs []error
	for _, short := range sortedKeys(m.Calls) {
		s := find(services, short)
		if s == nil {
			errs = append(errs, m.errorf("[calls] %s: no such service in ipc/ (%s)", short, shorts(services)))
			continue
		}
		for _, name := range m.Calls[short] {
			if !slices.ContainsFunc(s.Methods, func(x Method) bool { return x.Name == name }) {
				errs = append(errs, m.errorf("[calls] %s = [%q]: %s has no such method (%s)", short, name, s.Full, methodNames(s)))
			}
		}
		if len(m.Calls[short]) == 0 {
			errs = append(errs, m.errorf("[calls] %s names no method: name those it calls (%s) or drop the line", short, methodNames(s)))
		}
		p := providers[short]
		switch {
		case p == nil && !slices.Contains(initServices, short):
			errs = append(errs, m.errorf("[calls] %s: no daemon provides it", short))
		case p != nil && p.Tier >= m.Tier:
			errs = append(errs, m.errorf("[calls] %s: %s is of tier %d and %s of tier %d: calls go to lower tiers only, so that none can wait for another in a circle", short, p.Name, p.Tier, m.Name, m.Tier))
		}
	}
	return errs
}

func oneOf(known []string) func(string) string {
	return func(key string) string {
		if slices.Contains(known, key) {
			return ""
		}
		return "not one of " + strings.Join(known, ", ")
	}
}

func absolute(key string) string {
	if path.IsAbs(key) && path.Clean(key) == key && key != "/" {
		return ""
	}
	return "an absolute, clean path below /"
}

func devicePattern(key string) string {
	if _, err := path.Match(key, ""); err != nil || !strings.HasPrefix(key, "/dev/") || path.Clean(key) != key {
		return `a pattern below /dev, such as "/dev/nvme*"`
	}
	return ""
}

func tcpAddress(key string) string {
	network, address, _ := strings.Cut(key, ":")
	port := address[strings.LastIndex(address, ":")+1:]
	if n, err := strconv.Atoi(port); network == "tcp" && err == nil && n > 0 && n < 65536 {
		return ""
	}
	return `a network and an address, such as "tcp:7400"`
}

// memory reads "64MiB".
func memory(s string) (int64, error) {
	for suffix, unit := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30} {
		if n, err := strconv.ParseInt(strings.TrimSuffix(s, suffix), 10, 32); strings.HasSuffix(s, suffix) && err == nil && n > 0 {
			return n * unit, nil
		}
	}
	return 0, errors.New(`a number of MiB or GiB, such as "64MiB"`)
}

func find(services []Service, short string) *Service {
	for i := range services {
		if services[i].Short == short {
			return &services[i]
		}
	}
	return nil
}

func shorts(services []Service) string {
	var names []string
	for _, s := range services {
		names = append(names, s.Short)
	}
	return strings.Join(names, ", ")
}

func methodNames(s *Service) string {
	var names []string
	for _, m := range s.Methods {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
