package render

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dactyl-os/dactyl/ipc/config/extraargs"
)

// flag is one flag of a component. fixed says that cluster.yaml cannot change it.
type flag struct {
	name, value string
	fixed       bool
}

// fix adds a flag that the component's confinement, its place among the others, or who
// may do what rests on.
func (d *draft) fix(name, value string) {
	d.flags = append(d.flags, flag{name, value, true})
}

// set adds a flag that cluster.yaml may change if extraargs lists it.
func (d *draft) set(name, value string) {
	d.flags = append(d.flags, flag{name, value, false})
}

// asked returns what cluster.yaml says of a flag whose place is in a configuration
// file: merge does not add it to the flags.
func (d *draft) asked(n Node, name string) (value string, ok bool) {
	d.filed = append(d.filed, name)
	value, ok = n.ExtraArgs[d.Name][name]
	return value, ok
}

// merge adds cluster.yaml's flags to those of the component. configd has checked them
// already.
func (d *draft) merge(extra map[string]string) error {
	if problem := extraargs.Check(d.Name, extra); problem != "" {
		return fmt.Errorf("kubernetes.extraArgs.%s.%s", d.Name, problem)
	}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if slices.Contains(d.filed, name) {
			continue
		}
		i := slices.IndexFunc(d.flags, func(f flag) bool { return f.name == name })
		switch {
		case i < 0:
			d.set(name, extra[name])
		case d.flags[i].fixed:
			panic("BUG: extraargs lists --" + name + " of " + d.Name + ", which is fixed")
		default:
			d.flags[i].value = extra[name]
		}
	}
	return nil
}
