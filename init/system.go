package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// loadSystem reads the compiled form of all daemon.toml.
func loadSystem(path string) (*abi.System, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := decodeSystem(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// decodeSystem is strict: a key that this PID 1 does not know might be a limit
// that it would not set.
func decodeSystem(data []byte) (*abi.System, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	s := new(abi.System)
	if err := d.Decode(s); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more after the end of the JSON value")
	}
	return s, checkSystem(s)
}

// daemonNames become file names and host names.
var daemonNames = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// checkSystem refuses what would make PID 1 do something absurd. Whether the
// manifests make sense was decided when the image was built.
func checkSystem(s *abi.System) error {
	if len(s.Daemons) == 0 {
		return fmt.Errorf("no daemons")
	}
	users := map[uint32]string{0: "the machine's root"}
	names := map[string]bool{"init": true}
	for _, d := range s.Daemons {
		switch {
		case !daemonNames.MatchString(d.Name):
			return fmt.Errorf("daemon %q: not a name", d.Name)
		case names[d.Name]:
			return fmt.Errorf("daemon %s: named twice", d.Name)
		case d.Domain == "" && users[d.User] != "":
			return fmt.Errorf("daemon %s: same user %d as %s", d.Name, d.User, users[d.User])
		case d.Domain == "" && (d.Limits.MemoryBytes <= 0 || d.Limits.PIDs <= 0):
			return fmt.Errorf("daemon %s: no limits", d.Name)
		case d.UserNS && (len(d.Capabilities) > 0 || len(d.Mount) > 0):
			return fmt.Errorf("daemon %s: its rights mean nothing in a user namespace", d.Name)
		case d.Foreign != nil && len(d.Foreign.Filter)%8 != 0:
			return fmt.Errorf("daemon %s: its filter is not whole instructions", d.Name)
		}
		if err := checkDomain(d, s); err != nil {
			return fmt.Errorf("daemon %s: %w", d.Name, err)
		}
		for _, path := range paths(d) {
			if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
				return fmt.Errorf("daemon %s: path %q", d.Name, path)
			}
		}
		if _, err := capabilityMask(d.Capabilities); err != nil {
			return fmt.Errorf("daemon %s: %w", d.Name, err)
		}
		names[d.Name] = true
		if d.User != 0 {
			users[d.User] = d.Name
		}
	}
	for _, d := range s.Daemons {
		for _, giver := range d.From {
			if !names[giver] || giver == "init" {
				return fmt.Errorf("daemon %s: no daemon %q to give it anything", d.Name, giver)
			}
		}
	}
	for _, p := range providers(s) {
		for _, c := range p.Callers {
			if !names[c.Name] || c.Name == "init" {
				return fmt.Errorf("service %s: no daemon %q to call it", c.Service, c.Name)
			}
		}
	}
	return nil
}

// throughMounts is the right to open files by their handles, wherever they are.
const throughMounts = "DAC_READ_SEARCH"

// checkDomain sees that who is in a domain is what may be there: uid 0, whose
// rights end at the domain's walls.
func checkDomain(d abi.Daemon, s *abi.System) error {
	switch {
	case d.Domain == "":
		return nil
	case d.Foreign == nil || d.User != 0 || d.UserNS:
		return fmt.Errorf("only programs of others and of uid 0 are in a domain")
	case len(d.Foreign.Filter) > 0:
		return fmt.Errorf("a filter of system calls in a domain would be that of all pods")
	case slices.Contains(d.Capabilities, throughMounts):
		return fmt.Errorf("%s opens any file of a file system of which the domain has a directory", throughMounts)
	case !slices.ContainsFunc(s.Daemons, func(first abi.Daemon) bool { return first.Name == d.Domain && leads(first) }):
		return fmt.Errorf("nobody makes the domain %q", d.Domain)
	}
	return nil
}

func paths(d abi.Daemon) []string {
	all := []string{d.Exec}
	if d.Foreign != nil {
		all = append(all, d.Foreign.Program)
	}
	for _, list := range [][]string{d.Run, d.Read, d.Write, d.Mount, d.Devices} {
		all = append(all, list...)
	}
	return all
}

// provider is one who serves, by name.
type provider struct {
	name string
	abi.Provider
}

func providers(s *abi.System) []provider {
	all := []provider{{"init", s.Init}}
	for _, d := range s.Daemons {
		all = append(all, provider{d.Name, d.Provider})
	}
	return all
}

func userOf(s *abi.System, name string) uint32 {
	for _, d := range s.Daemons {
		if d.Name == name {
			return d.User
		}
	}
	panic("BUG: no daemon " + name)
}
