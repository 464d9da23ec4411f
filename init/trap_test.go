package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/dactyl-os/dactyl/ipc/machine"
)

// Tests in this file are attacks on PID 1 by the root of a domain: it keeps a process from
// reaching its program while PID 1 makes it a member of the domain.

// caught is what testdata/foreign learns of such a process.
type caught struct {
	PID         int
	Comm        string
	Status      map[string]string
	Secret      string
	Namespaces  map[string]string
	Cgroup      string
	Descriptors []string
	Shared      []string
	Err         string
}

// startSecretDomain starts a domain on a machine with the OS CA's key.
func startSecretDomain(t *testing.T) control {
	c := startDomain(t)
	key := c.path("/state/trustd/authority.pem")
	if err := os.MkdirAll(filepath.Dir(key), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("THE OS CA'S KEY"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// agentRights are the capabilities of the agent of domainSystem.
var agentRights = fmt.Sprintf("%016x", 1<<unix.CAP_NET_ADMIN|1<<unix.CAP_DAC_OVERRIDE|1<<unix.CAP_CHOWN)

// check finds everything in a caught process that the agent does not have.
func (p caught) check(t *testing.T) {
	t.Helper()
	if p.Err != "" {
		t.Fatal(p.Err)
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
		if p.Status[set] != agentRights {
			t.Errorf("%s %s, want the agent's %s", set, p.Status[set], agentRights)
		}
	}
	if !strings.Contains(p.Secret, "no such file or directory") {
		t.Errorf("the OS CA's key is %s", p.Secret)
	}
	if len(p.Namespaces) > 0 {
		t.Errorf("it has namespaces other than the domain's: %v", p.Namespaces)
	}
	if len(p.Descriptors) > 5 {
		t.Errorf("it holds %q, want its standard descriptors, its cgroup.procs and the report", p.Descriptors)
	}
	for _, is := range p.Descriptors {
		if is != "/dev/null" && !strings.HasPrefix(is, "pipe:") && !strings.HasSuffix(is, "/cgroup.procs") {
			t.Errorf("it holds %s", is)
		}
	}
	if len(p.Shared) > 0 {
		t.Errorf("it shares memory with PID 1: %q", p.Shared)
	}
}

func (c control) attack(command string, into any) {
	c.t.Helper()
	var text string
	if text = c.ask("runtime", command); json.Unmarshal([]byte(text), into) != nil {
		c.t.Fatalf("%s: %s", command, text)
	}
}

// TestDomainCannotFreezeItsNextMember prepares a frozen cgroup for the agent's next process.
func TestDomainCannotFreezeItsNextMember(t *testing.T) {
	c := startSecretDomain(t)
	var all []caught
	c.attack("trap agent", &all)
	for _, p := range all {
		p.check(t)
	}
	c.eventually("the agent runs again", func() bool { return c.daemon(c.Client, "agent").State == up })
	if p := c.look("agent"); p.Status["CapEff"] != agentRights {
		t.Errorf("the agent has %s", p.Status["CapEff"])
	}
}

// TestHeldMemberHasNothingOfPID1 stops a process just before it executes the agent.
func TestHeldMemberHasNothingOfPID1(t *testing.T) {
	c := startSecretDomain(t)
	var p caught
	c.attack("hold agent", &p)
	p.check(t)
	if p.Comm != "init" {
		t.Errorf("it is %s already: this test tries nothing", p.Comm)
	}
	if !strings.HasSuffix(p.Cgroup, "/agent") {
		t.Errorf("its cgroup is %s", p.Cgroup)
	}
	// PID 1 stops it nevertheless, though the attacker holds the report pipe open.
	within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.StopProgram(within, &pb.StopProgramRequest{Name: "agent"}); err != nil {
		t.Errorf("stop a held process: %v", err)
	}
	if answer := c.ask("runtime", "release"); answer != "<nil>" {
		t.Error(answer)
	}
	if _, code := c.begin("agent"); code != codes.OK {
		t.Errorf("start again: %v", code)
	}
}

// TestHeldMemberIsNotWaitedForForEver stops a process that a restart waits for.
func TestHeldMemberIsNotWaitedForForEver(t *testing.T) {
	c := startSecretDomain(t)
	var p caught
	c.attack("hold agent", &p)
	within, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	if _, err := c.RestartDaemon(within, &pb.RestartDaemonRequest{Name: "agent"}); status.Code(err) != codes.DeadlineExceeded || within.Err() != nil {
		t.Errorf("restart of what cannot be executed: %v", err)
	}
	if answer := c.ask("runtime", "release"); answer != "<nil>" {
		t.Error(answer)
	}
	c.eventually("the agent runs again", func() bool { return c.daemon(c.Client, "agent").State == up })
}

// TestHeldMemberCannotMisleadPID1 writes nonsense to the report pipe.
func TestHeldMemberCannotMisleadPID1(t *testing.T) {
	c := startSecretDomain(t)
	var p caught
	c.attack("hold agent", &p)
	before := c.daemon(c.Client, "agent").Restarts
	if answer := c.ask("runtime", "scribble"); answer != "<nil>" {
		t.Fatal(answer)
	}
	c.eventually("the process is given up", func() bool {
		d := c.daemon(c.Client, "agent")
		return d.Restarts > before && strings.Contains(d.Reason, "its report names step")
	})
	if answer := c.ask("runtime", "release"); answer != "<nil>" {
		t.Error(answer)
	}
	c.eventually("the agent runs again", func() bool { return c.daemon(c.Client, "agent").State == up })
}
