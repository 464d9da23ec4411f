package manifest

import (
	"regexp"
	"strings"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

type usedKey struct {
	key  string
	used bool
}

// checkProgram looks at what only programs may have that others wrote, and at what
// these cannot have because they know nothing of package abi.
func (m *Manifest) checkProgram(wrong wrong) {
	if !m.Foreign() {
		for _, k := range []usedKey{{"at", m.At != ""}, {"args", len(m.Args) > 0}, {"[env]", len(m.Env) > 0}, {"domain", m.Domain != ""}} {
			if k.used {
				wrong("%s is for programs that others wrote: name one with program, or drop it", k.key)
			}
		}
		return
	}
	for _, k := range []struct{ key, path string }{{"program", m.Program}, {"at", m.At}} {
		if what := absolute(k.path); k.path != "" && what != "" {
			wrong("%s = %q: %s", k.key, k.path, what)
		}
	}
	for _, k := range []usedKey{{"provides", m.Provides != ""}, {"gateway", m.Gateway != ""}, {"logs", m.Logs != ""}, {"[calls]", len(m.Calls) > 0}, {"[listen]", len(m.Listen) > 0}} {
		if k.used {
			wrong("%s: %s is a program that others wrote, which does not know of it", k.key, m.Name)
		}
	}
	for _, name := range sortedKeys(m.Env) {
		if !envName.MatchString(name) || strings.ContainsRune(m.Env[name], 0) {
			wrong("[env] %q: letters, digits and underscores, such as GOMEMLIMIT", name)
		}
	}
	if len(m.Run) > 0 && m.Domain == "" {
		wrong("[run]: of programs that others wrote only a domain's start others; %s has no domain, and its filter of system calls is in force from its start", m.Name)
	}
	if len(m.Syscalls) > 0 && m.Domain != "" {
		wrong("[syscalls]: a domain's programs have no filter, because pods need all calls")
	}
}

// checkGivers looks at who writes files for m.
func (m *Manifest) checkGivers(names map[string]*Manifest) []error {
	var errs []error
	for _, name := range sortedKeys(m.From) {
		giver := names[name]
		switch {
		case giver == nil:
			errs = append(errs, m.errorf("[from] %s: no such daemon", name))
		case giver == m:
			errs = append(errs, m.errorf("[from] %s: a daemon hands nothing to itself", name))
		case giver.Foreign():
			errs = append(errs, m.errorf("[from] %s is a program that others wrote: it hands nothing on", name))
		}
	}
	return errs
}

// checkDomain sees that m's domain exists and that everything which its programs
// share is said once, at the one that makes it.
func (m *Manifest) checkDomain(names map[string]*Manifest) []error {
	if !m.follows() {
		return nil
	}
	first := names[m.Domain]
	if first == nil || !first.leads() {
		return []error{m.errorf("domain = %q: no program of that name makes a domain", m.Domain)}
	}
	var errs []error
	if first.Tier >= m.Tier {
		errs = append(errs, m.errorf("tier = %d: %s, in whose domain it runs, is of tier %d and must start before", m.Tier, m.Domain, first.Tier))
	}
	for _, t := range m.tables() {
		if t.name != "capabilities" && len(t.rights) > 0 {
			errs = append(errs, m.errorf("[%s]: all programs of the domain %s share it: put it there", t.name, m.Domain))
		}
	}
	for _, name := range sortedKeys(m.Capabilities) {
		if _, ok := first.Capabilities[name]; !ok {
			errs = append(errs, m.errorf("[capabilities] %s: the domain %s does not have it", name, m.Domain))
		}
	}
	return errs
}
