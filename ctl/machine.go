package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/spf13/pflag"

	machineapi "github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/words"
)

func daemonFlags(f *pflag.FlagSet) {
	f.BoolP("all", "a", false, "also programs that run on request and are idle")
}

// showDaemons leaves out of the table what does not run because nobody wants it to.
func showDaemons(c *call, r *machineapi.ListDaemonsResponse) error {
	if c.output == asTable && !c.isSet("all") {
		all := len(r.Daemons)
		r.Daemons = slices.DeleteFunc(r.Daemons, func(d *machineapi.Daemon) bool { return d.State == machineapi.DaemonState_DAEMON_STATE_IDLE })
		if idle := all - len(r.Daemons); idle > 0 {
			c.note("programs that run on request and are idle now: %d (--all shows them)", idle)
		}
	}
	return c.show(r, func() table { return daemonTable(r) })
}

func daemonTable(r *machineapi.ListDaemonsResponse) table {
	t := table{header: []string{"NAME", "STATE", "PID", "UID", "UPTIME", "RESTARTS", "MEMORY", "CAPABILITIES", "NAMESPACES", "SECCOMP", "LANDLOCK", "NOTE"}}
	for _, d := range r.Daemons {
		pid, uptime, memory, landlock := "", "", "", "none"
		if d.Pid != 0 {
			pid, uptime, memory = decimal(d.Pid), millis(d.UptimeMs), size(d.MemoryBytes)
		}
		if d.Landlock > 0 {
			landlock = decimal(d.Landlock)
		}
		note := d.Reason
		if d.Replaced {
			note = first(note, "replaced")
		}
		t.add(d.Name, words.Of(d.State), pid, decimal(d.Uid), uptime, decimal(d.Restarts), memory,
			some(d.Capabilities), namespaces(d), d.Seccomp, landlock, note)
	}
	return t
}

// fewCapabilities is how many are shown by name: a domain of pods has nearly all.
const fewCapabilities = 5

// some writes a list that may be long: the number of all and the first.
func some(capabilities []string) string {
	if len(capabilities) <= fewCapabilities {
		return list(capabilities)
	}
	return fmt.Sprintf("%d:%s,…", len(capabilities), list(capabilities[:2]))
}

// namespaces names those that a daemon does not share with the machine, behind the
// domain that it shares them with.
func namespaces(d *machineapi.Daemon) string {
	own := list(owned(d.Namespaces))
	if d.Domain != "" {
		return d.Domain + ":" + own
	}
	return own
}

// owned returns the namespaces that a daemon does not share with the machine.
func owned(namespaces map[string]bool) (own []string) {
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		if namespaces[name] {
			own = append(own, name)
		}
	}
	return own
}

func graphTable(r *machineapi.Graph) table {
	t := table{header: []string{"CALLER", "CALLEE", "SERVICE", "METHODS"}}
	for _, e := range r.Edges {
		t.add(e.Caller, e.Callee, e.Service, list(e.Methods))
	}
	return t
}

func restartDaemon(c *call) error {
	return c.withMachine(func(s *session) error {
		answer, err := machineapi.NewClient(s).RestartDaemon(c.ctx, &machineapi.RestartDaemonRequest{Name: c.args[0]})
		if err != nil {
			return err
		}
		return c.show(answer, func() table {
			return table{header: []string{"NAME", "PID"}, rows: [][]string{{c.args[0], decimal(answer.Pid)}}}
		})
	})
}

// daemonNames completes the name of a daemon.
func daemonNames(c *call) (names []string) {
	s, err := c.connect()
	if err != nil {
		return nil
	}
	defer s.close()
	answer, err := machineapi.NewClient(s).ListDaemons(c.ctx, &machineapi.ListDaemonsRequest{})
	if err != nil {
		return nil
	}
	for _, d := range answer.Daemons {
		names = append(names, d.Name)
	}
	return names
}

func versionFlags(f *pflag.FlagSet) { f.Bool("client", false, "this command's version only") }

// showVersion shows both versions; this command's also where the machine's
// cannot be had.
func showVersion(c *call) error {
	client := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
	t := table{header: []string{"SIDE", "VERSION", "MODE", "KERNEL", "HOSTNAME", "UPTIME", "ROOT-HASH"}}
	t.add("client", version, "", "", "", "", "")
	both := map[string]any{"client": client}
	var failed error
	if !c.isSet("client") {
		failed = c.withMachine(func(s *session) error {
			v, err := machineapi.NewClient(s).GetVersion(c.ctx, &machineapi.GetVersionRequest{})
			if err != nil {
				return err
			}
			t.add("server", v.Version, v.Mode, v.Kernel, v.Hostname, millis(v.UptimeMs), v.RootHash)
			server, err := toJSON(v)
			both["server"] = json.RawMessage(server)
			return err
		})
	}
	if c.output == asTable {
		if err := t.write(c.stdout); err != nil {
			return err
		}
		return failed
	}
	b, err := json.Marshal(both)
	if err != nil {
		return fmt.Errorf("write versions as JSON: %w", err)
	}
	if err := c.showJSON(b); err != nil {
		return err
	}
	return failed
}
