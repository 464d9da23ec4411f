package manifest

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/daemons/kit"
)

// Build is all manifests and services of one image, checked together.
type Build struct {
	Mode      string
	Manifests []*Manifest // by tier, then name
	Services  []Service   // by short name
}

// Read loads and checks everything under root for images of the given mode.
func Read(ctx context.Context, root, mode string) (*Build, error) {
	services, err := Services(ctx, root, mode)
	if err != nil {
		return nil, err
	}
	all, err := Load(root, mode)
	if err != nil {
		return nil, err
	}
	return New(mode, all, services)
}

// New checks manifests against each other and the services.
func New(mode string, all []*Manifest, services []Service) (*Build, error) {
	if err := check(all, services); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *Manifest) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Name, b.Name))
	})
	return &Build{mode, all, services}, nil
}

// System compiles what PID 1 reads.
func (b *Build) System(version string, epoch int64) abi.System {
	s := abi.System{Version: version, Mode: abi.Mode(b.Mode), Epoch: epoch, Init: b.provider(initName)}
	for _, m := range b.Manifests {
		s.Daemons = append(s.Daemons, b.daemon(m))
	}
	return s
}

// Routes compiles the gateway's table.
func (b *Build) Routes() abi.Routes {
	var r abi.Routes
	for _, s := range b.Services {
		if b.callee(s.Short) == "" {
			continue
		}
		for _, m := range s.Methods {
			if m.Role != "" {
				r.Routes = append(r.Routes, abi.Route{Path: "/" + s.Full + "/" + m.Name, Service: s.Short, Role: m.Role,
					Idempotent: m.Idempotent, ClientStream: m.ClientStream, ServerStream: m.ServerStream})
			}
		}
	}
	slices.SortFunc(r.Routes, func(a, b abi.Route) int { return cmp.Compare(a.Path, b.Path) })
	return r
}

// Served returns the services that somebody in this image serves.
func (b *Build) Served() []Service {
	return slices.DeleteFunc(slices.Clone(b.Services), func(s Service) bool { return b.callee(s.Short) == "" })
}

// JSON encodes what PID 1 or the gateway reads.
func JSON(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", " ")
	return append(text, '\n'), err
}

func (b *Build) daemon(m *Manifest) abi.Daemon {
	d := abi.Daemon{
		Name: m.Name, Exec: abi.DaemonDir + "/" + m.Name, User: m.User, Tier: m.Tier,
		Provider:     b.provider(m.Name),
		Capabilities: sortedKeys(m.Capabilities), Devices: sortedKeys(m.Devices),
		Run: sortedKeys(m.Run), Read: sortedKeys(m.Read), Write: sortedKeys(m.Write), Emptied: m.emptied(), Owned: m.owned(), Mount: sortedKeys(m.Mount),
		UserNS: m.userNS(), Syscalls: sortedKeys(m.Syscalls), Logs: m.Logs != "",
		Limits: m.Limits.compile(),
		From:   sortedKeys(m.From), Gives: b.gives(m), OnRequest: m.Request != "", Last: m.Last != "", Alone: m.Alone != "", Domain: m.Domain,
	}
	if _, host := m.Network["host"]; host {
		d.Network = "host"
	}
	for _, l := range sortedKeys(m.Listen) {
		network, address, _ := strings.Cut(l, ":")
		if !strings.Contains(address, ":") {
			address = ":" + address
		}
		d.Listen = append(d.Listen, abi.Listen{Network: network, Address: address})
	}
	if m.Foreign() {
		d.Exec = cmp.Or(m.At, m.Program)
		d.Foreign = m.foreignPart()
	}
	return d
}

// userNS tells whether m can have a user namespace of its own: capabilities over
// the machine itself count only in the machine's, and mounts reach the machine
// only from there.
func (m *Manifest) userNS() bool {
	return len(m.Capabilities) == 0 && len(m.Mount) == 0 && m.Domain == ""
}

func (m *Manifest) foreignPart() *abi.Foreign {
	f := &abi.Foreign{Program: m.Program, Args: m.Args}
	for _, name := range sortedKeys(m.Env) {
		f.Env = append(f.Env, name+"="+m.Env[name])
	}
	if m.Domain == "" {
		filter, err := kit.ForeignFilter(sortedKeys(m.Syscalls))
		if err != nil {
			panic("BUG: " + err.Error()) // the sets were checked
		}
		f.Filter = filter
	}
	return f
}

// compile makes numbers of limits that were checked.
func (l Limits) compile() abi.Limits {
	bytes, _ := memory(l.Memory)
	stop, _ := wholeSeconds(l.Stop)
	return abi.Limits{MemoryBytes: bytes, PIDs: l.PIDs, Files: l.Files, StopSeconds: stop}
}

// gives tells whether somebody reads what m writes for it.
func (b *Build) gives(m *Manifest) bool {
	return slices.ContainsFunc(b.Manifests, func(x *Manifest) bool { return x.From[m.Name] != "" })
}

// provider says what name serves, and to whom.
func (b *Build) provider(name string) abi.Provider {
	var p abi.Provider
	for _, s := range b.Services {
		if b.callee(s.Short) != name {
			continue
		}
		p.Services = append(p.Services, s.Short)
		for _, m := range b.Manifests {
			if methods := b.mayCall(m, s); len(methods) > 0 {
				p.Callers = append(p.Callers, abi.Caller{Name: m.Name, Service: s.Short, Full: s.Full, Methods: methods})
			}
		}
	}
	slices.SortFunc(p.Callers, func(a, b abi.Caller) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Service, b.Service))
	})
	return p
}

// callee returns who serves a service, or "" when nobody in this image does.
func (b *Build) callee(short string) string {
	for _, m := range b.Manifests {
		if m.Provides == short {
			return m.Name
		}
	}
	if slices.Contains(initServices, short) {
		return initName
	}
	return ""
}

// mayCall returns the methods of s that m may call, sorted.
func (b *Build) mayCall(m *Manifest, s Service) []string {
	methods := slices.Clone(m.Calls[s.Short])
	if callee := b.callee(s.Short); m.Gateway != "" && callee != "" && callee != m.Name {
		for _, x := range s.Methods {
			if x.Role != "" {
				methods = append(methods, x.Name)
			}
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}
