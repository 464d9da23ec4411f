package manifest

import (
	"fmt"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// directory is one entry of [write]. On EPHEMERAL it says how long it lives:
//
//	"/run/logd"           = "why"                               # elsewhere
//	"/var/lib/cni"        = {boot = "why"}                      # emptied at each boot
//	"/var/lib/containerd" = {keep = "why", of = "containerd"}   # kept, set aside when containerd cannot start with it
type directory struct {
	plain      string // reason, of one that is not on EPHEMERAL
	boot, keep string // reason
	of         string // program that reads it, of a kept one that can be made again
}

// directoryOf reads one entry as TOML gives it: a string or a table.
func directoryOf(entry any) (directory, error) {
	var d directory
	switch entry := entry.(type) {
	case string:
		return directory{plain: entry}, nil
	case map[string]any:
		fields := map[string]*string{"boot": &d.boot, "keep": &d.keep, "of": &d.of}
		for key, value := range entry {
			text, isText := value.(string)
			if fields[key] == nil || !isText {
				return d, fmt.Errorf("%s = %v: write %s", key, value, lifetimes)
			}
			*fields[key] = text
		}
		return d, nil
	}
	return d, fmt.Errorf("%v: write a reason, or %s", entry, lifetimes)
}

// readDirectories fills m.directories.
func (m *Manifest) readDirectories() error {
	m.directories = map[string]directory{}
	for _, path := range sortedKeys(m.Write) {
		d, err := directoryOf(m.Write[path])
		if err != nil {
			return m.errorf("[write] %s: %v", path, err)
		}
		m.directories[path] = d
	}
	return nil
}

const lifetimes = `{boot = "why"} or {keep = "why"}, and of = "PROGRAM" for what can be made again when that program cannot start with it`

func (d directory) reason() string { return d.plain + d.boot + d.keep }

func reasons(all map[string]directory) map[string]string {
	texts := map[string]string{}
	for path, d := range all {
		texts[path] = d.reason()
	}
	return texts
}

// ephemeral is where EPHEMERAL is mounted.
const ephemeral = "/var"

// checkLifetimes sees that each directory on EPHEMERAL says how long it lives, and
// no other does.
func (m *Manifest) checkLifetimes(wrong wrong) {
	for _, path := range sortedKeys(m.Write) {
		d := m.directories[path]
		switch {
		case in(path, ephemeral) && (d.boot == "") == (d.keep == ""):
			wrong("[write] %s is on EPHEMERAL: say how long it lives: %s", path, lifetimes)
		case !in(path, ephemeral) && d.plain == "":
			wrong("[write] %s is not on EPHEMERAL: write %q = \"why %s needs it\"", path, path, m.Name)
		case d.of != "" && d.keep == "":
			wrong("[write] %s: of is for what is kept", path)
		}
	}
}

// checkOwners sees that what is set aside belongs to a program of the same domain,
// whose processes end before that.
func (m *Manifest) checkOwners(names map[string]*Manifest) []error {
	var errs []error
	for _, path := range sortedKeys(m.Write) {
		of := m.directories[path].of
		if of == "" {
			continue
		}
		if owner := names[of]; owner == nil || m.Domain == "" || owner.Domain != m.Domain {
			errs = append(errs, m.errorf("[write] %s: of = %q: only a program of the same domain can have its directory set aside", path, of))
		}
	}
	return errs
}

// emptied are the directories that live for a boot.
func (m *Manifest) emptied() []string {
	var all []string
	for _, path := range sortedKeys(m.Write) {
		if m.directories[path].boot != "" {
			all = append(all, path)
		}
	}
	return all
}

// owned are the directories that can be set aside.
func (m *Manifest) owned() []abi.Owned {
	var all []abi.Owned
	for _, path := range sortedKeys(m.Write) {
		if of := m.directories[path].of; of != "" {
			all = append(all, abi.Owned{Path: path, Owner: of})
		}
	}
	return all
}

// lifetime is what the graph says after the reason.
func (d directory) lifetime() string {
	switch {
	case d.boot != "":
		return " [emptied at each boot]"
	case d.of != "":
		return " [kept; set aside when " + d.of + " cannot start with it]"
	case d.keep != "":
		return " [kept]"
	}
	return ""
}
