package manifest

import (
	"errors"
	"fmt"
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
	// domainMayHave are those of programs that make and serve pods: what pods may be
	// given. Missing are those that reach behind the domain's walls or are a daemon's
	// own business: DAC_READ_SEARCH (opens any file of a filesystem by its handle,
	// whatever is mounted), SYS_RAWIO, SYS_MODULE, SYS_BOOT, SYS_TIME, PERFMON …
	domainMayHave = []string{
		"AUDIT_WRITE", "BPF", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL",
		"LEASE", "LINUX_IMMUTABLE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID",
		"SYSLOG", "SYS_ADMIN", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE", "SYS_RESOURCE",
	}
)

const (
	firstUser, lastUser = 100, 199 // of daemons
	lastTier            = 12
)

// check looks at each manifest alone and at all of them together.
func check(all []*Manifest, services []Service) error {
	var errs []error
	users, names, providers := map[uint32]string{}, map[string]*Manifest{}, map[string]*Manifest{}
	for _, m := range all {
		errs = append(errs, m.check()...)
		if other, twice := users[m.User]; twice && m.User != 0 {
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
		errs = append(errs, m.checkGivers(names)...)
		errs = append(errs, m.checkDomain(names)...)
		errs = append(errs, m.checkOwners(names)...)
	}
	errs = append(errs, checkWriters(all)...)
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
	switch {
	case m.Domain != "" && m.User != 0:
		wrong("user = %d: a domain's programs have 0, because pods need all users", m.User)
	case m.Domain == "" && (m.User < firstUser || m.User > lastUser):
		wrong("user = %d: daemons have %d to %d", m.User, firstUser, lastUser)
	}
	if m.Tier < 1 || m.Tier > lastTier {
		wrong("tier = %d: 1 to %d", m.Tier, lastTier)
	}
	if m.Only != "" && m.Only != "dev" && m.Only != "test" {
		wrong("only = %q: \"dev\" or \"test\"", m.Only)
	}
	if m.Last != "" && m.Request != "" {
		wrong("last: it does not start at boot at all, but when somebody asks (request); drop one of them")
	}
	m.checkRights(wrong)
	m.checkPaths(wrong)
	m.checkLifetimes(wrong)
	m.checkLimits(wrong)
	m.checkProgram(wrong)
	return errs
}

// wrong takes one complaint.
type wrong func(format string, a ...any)

// checkRights looks at every right alone, and that it has a reason.
func (m *Manifest) checkRights(wrong wrong) {
	capabilities := mayHave
	if m.Domain != "" {
		capabilities = domainMayHave
	}
	right := map[string]func(key string) string{ // what would be right, or ""
		"capabilities": oneOf(capabilities),
		"devices":      devicePattern,
		"from":         anything, // looked at with all manifests together
		"run":          absolute,
		"read":         absolute,
		"write":        absolute,
		"mount":        absolute,
		"network":      oneOf([]string{"host"}),
		"listen":       tcpAddress,
		"syscalls":     oneOf(kit.Sets()),
	}
	for _, t := range m.tables() {
		for _, key := range sortedKeys(t.rights) {
			if what := right[t.name](key); what != "" {
				wrong("[%s] %s: %s", t.name, key, what)
			}
			if strings.TrimSpace(t.rights[key]) == "" {
				wrong("[%s] %s has no reason: write %s = \"why %s needs it\"", t.name, key, strconv.Quote(key), m.Name)
			}
		}
	}
}

func (m *Manifest) checkLimits(wrong wrong) {
	_, err := memory(m.Limits.Memory)
	switch none := m.Limits.Memory == "none"; {
	case none && m.Domain == "":
		wrong("[limits] memory = \"none\": only a domain's programs may, whose pods have limits of their own")
	case !none && err != nil:
		wrong("[limits] memory = %q: %v", m.Limits.Memory, err)
	}
	if none := m.Limits.PIDs == 0 && m.Domain != ""; !none && (m.Limits.PIDs < 8 || m.Limits.PIDs > 4096) {
		wrong("[limits] pids = %d: 8 (a Go program's threads) to 4096", m.Limits.PIDs)
	}
	if f := m.Limits.Files; f != 0 && (f < 64 || f > 1<<20) {
		wrong("[limits] files = %d: 64 to %d, or drop the line", f, 1<<20)
	}
	if _, err := wholeSeconds(m.Limits.Stop); err != nil {
		wrong("[limits] stop = %q: %v", m.Limits.Stop, err)
	}
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
