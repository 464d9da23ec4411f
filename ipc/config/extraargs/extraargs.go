// Package extraargs holds the flags of Kubernetes' components that cluster.yaml may
// set, in kubernetes.extraArgs.
//
// It is an allowlist. cluster.yaml lies on a FAT partition that any computer can
// write, so nothing in it may give rights: no flag here changes who may do what, where
// a component gets its pods, keys or files from, where it listens, or what it checks.
// Each flag has its reason, and its value is checked, so that a mistake is found when
// the file is read and not by a component that does not start.
//
// configd checks the file before anything of it is applied. kubed checks again before
// it renders, because it is the one that hands the flags on.
//
//	flags.go     the flags, by component
//	values.go    checks of values
package extraargs

import (
	"fmt"
	"slices"
	"strings"
)

// Flag is one that cluster.yaml may set.
type Flag struct {
	Name    string // without hyphens
	Why     string // what it is good for
	Example string // a value that it may have
	check   check
}

// A check returns what is wanted in place of a value; empty if the value is fit.
type check func(value string) (want string)

// Components are those that take flags, in the order of messages.
func Components() []string {
	var all []string
	for _, c := range components {
		all = append(all, c.name)
	}
	return all
}

// Of returns the flags that may be set for a component, none for one without.
func Of(component string) []Flag {
	i := slices.IndexFunc(components, func(c component1) bool { return c.name == component })
	if i < 0 {
		return nil
	}
	return components[i].flags
}

// Name returns what is wrong with the name of a flag, and what would be right; empty if
// it may be set.
func Name(component, flag string) string {
	all := Of(component)
	if len(all) == 0 {
		return "it takes no flags: want one of " + strings.Join(Components(), ", ")
	}
	var names []string
	for _, f := range all {
		if f.Name == flag {
			return ""
		}
		names = append(names, f.Name)
	}
	return "not a flag that cluster.yaml may set: want one of " + strings.Join(names, ", ")
}

// Value returns what is wrong with the value of a flag that may be set, and what would
// be right; empty if nothing is.
func Value(component, flag, value string) string {
	for _, f := range Of(component) {
		if f.Name != flag {
			continue
		}
		if want := f.check(value); want != "" {
			return fmt.Sprintf("%q: want %s", value, want)
		}
	}
	return ""
}

// Together returns which of a component's flags, each of them fit, contradicts another,
// and how; empty if none does.
func Together(component string, flags map[string]string) (flag, problem string) {
	if component != "kubelet" {
		return "", ""
	}
	high, hasHigh := flags["image-gc-high-threshold"]
	low, hasLow := flags["image-gc-low-threshold"]
	if hasHigh && hasLow && number(low) >= number(high) {
		return "image-gc-low-threshold", fmt.Sprintf("%s is not below image-gc-high-threshold, %s: want less", low, high)
	}
	soft, grace := Pairs(flags["eviction-soft"], "<"), Pairs(flags["eviction-soft-grace-period"], "=")
	for _, p := range soft {
		if !has(grace, p.Key) {
			return "eviction-soft", fmt.Sprintf("%s has no grace period: want one in eviction-soft-grace-period, such as %s=2m", p.Key, p.Key)
		}
	}
	for _, p := range grace {
		if !has(soft, p.Key) {
			return "eviction-soft-grace-period", fmt.Sprintf("%s has no threshold: want one in eviction-soft, such as %s<10%%", p.Key, p.Key)
		}
	}
	return "", ""
}

// Check returns what is wrong with all flags of a component, in a sentence that begins
// with the flag's name; empty if nothing is.
func Check(component string, flags map[string]string) string {
	var names []string
	for name := range flags {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		problem := Name(component, name)
		if problem == "" {
			problem = Value(component, name, flags[name])
		}
		if problem != "" {
			return name + ": " + problem
		}
	}
	if name, problem := Together(component, flags); problem != "" {
		return name + ": " + problem
	}
	return ""
}

// Pair is one entry of a value such as memory.available<100Mi,nodefs.available<5%.
type Pair struct{ Key, Value string }

// Pairs splits a value, whose entries have a key, a separator and a value each.
func Pairs(value, separator string) []Pair {
	var all []Pair
	for entry := range strings.SplitSeq(value, ",") {
		if key, v, ok := strings.Cut(entry, separator); ok {
			all = append(all, Pair{strings.TrimSpace(key), strings.TrimSpace(v)})
		}
	}
	return all
}

func has(all []Pair, key string) bool {
	return slices.ContainsFunc(all, func(p Pair) bool { return p.Key == key })
}
