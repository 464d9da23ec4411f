// Scenario dactyl_command: a person with nothing but the dactyl command, the
// address and the code on the console: claims the machine, asks every daemon,
// replaces one, restarts the machine and powers it off. If it fails, the README is
// not true.
package dactyl_command

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/test/vm"
)

// person types commands.
type person struct {
	t       *testing.T
	command string
	env     []string
}

// run returns what the command wrote to each of its outputs, and its exit code.
func (p person) run(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, notes strings.Builder
	cmd := exec.CommandContext(ctx, p.command, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, &out, &notes
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.t.Fatalf("dactyl %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), notes.String(), cmd.ProcessState.ExitCode()
}

// try returns both outputs as a terminal shows them.
func (p person) try(ctx context.Context, args ...string) (string, int) {
	out, notes, code := p.run(ctx, args...)
	return out + notes, code
}

// types runs a command that has to work, and returns what a pipe would get of it.
func (p person) types(args ...string) string {
	p.t.Helper()
	out, notes, code := p.run(vm.Context(p.t), args...)
	if code != 0 {
		p.t.Fatalf("dactyl %s: exit code %d: %s%s", strings.Join(args, " "), code, out, notes)
	}
	return out
}

// sees runs a command as a table and as JSON; the table must show each word.
func (p person) sees(command string, words ...string) {
	p.t.Helper()
	args := strings.Fields(command)
	table := p.types(args...)
	for _, w := range words {
		if !strings.Contains(table, w) {
			p.t.Errorf("dactyl %s does not show %q:\n%s", command, w, table)
		}
	}
	var anything any
	if out := p.types(append(args, "-o", "json")...); json.Unmarshal([]byte(out), &anything) != nil {
		p.t.Errorf("dactyl %s -o json is not JSON:\n%s", command, out)
	}
}

func TestAPersonWithTheCommand(t *testing.T) {
	ctx := vm.Context(t)
	m, err := vm.Start(t.Context(), vm.Config{Image: vm.Image(t, "test"), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	p := newPerson(t, m)
	code, err := m.Serial.WaitFor(ctx, 0, `pairing code: ([0-9A-Z-]{24,})`)
	if err != nil {
		t.Fatal(err)
	}

	if out, exit := p.try(ctx, "claim", m.API, "--code", "0000-0000-0000-0000-0000-0000"); exit != 3 {
		t.Errorf("claim with a wrong code: exit code %d, want 3:\n%s", exit, out)
	}
	p.types("claim", m.API, "--code", code[1])

	p.sees("daemons", "NAME", "STATE", "networkd", "NET_ADMIN", "routerd")
	p.sees("network links", "lo", "physical")
	p.sees("network addresses", "127.0.0.1/8", "dhcp")
	p.sees("network routes", "default")
	p.sees("network resolvers")
	p.sees("storage disks", "usb")
	p.sees("storage partitions", "ROOT-A", "STATE", "EPHEMERAL")
	p.sees("storage mounts", "/state", "ext4")
	p.sees("trust certs", "admin")
	p.sees("time")
	p.sees("kube status", "no cluster configured")
	p.sees("graph", "routerd", "trust")
	p.sees("version", "test")
	p.types("config", "show")
	if out := p.types("logs", "networkd", "--tail", "5"); out == "" {
		t.Error("networkd's log is empty")
	}
	if out := p.types("dmesg"); !strings.Contains(out, "Linux version") {
		t.Error("the kernel's log does not begin at its beginning")
	}
	if out, exit := p.try(ctx, "logs", "nobodyd"); exit != 4 || !strings.Contains(out, "nobodyd") {
		t.Errorf("logs of no daemon: exit code %d, want 4 and its name:\n%s", exit, out)
	}

	p.types("restart", "timed")
	p.types("dev", "replace", "networkd", filepath.Join(filepath.Dir(vm.Image(t, "test")), "root/lib/dactyl/networkd"))
	p.types("dev", "restore", "networkd")

	mark := m.Serial.Mark()
	p.types("reboot", "--yes", "--wait")
	if _, err := m.Serial.WaitFor(ctx, mark, `dactyl .* ready`); err != nil {
		t.Error(err)
	}
	p.sees("daemons", "networkd")
	p.types("shutdown", "--yes")
	if err := m.Wait(ctx); err != nil {
		t.Error(err)
	}
}

func newPerson(t *testing.T, m *vm.Machine) person {
	t.Helper()
	command := filepath.Join(t.TempDir(), "dactyl")
	if out, err := exec.Command("go", "build", "-o", command, "../../../ctl").CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v: %s", err, out)
	}
	env := append(os.Environ(), "DACTYL_CONFIG="+t.TempDir(), "DACTYL_ADDRESS="+m.API)
	return person{t, command, env}
}
