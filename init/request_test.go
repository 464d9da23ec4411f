package main

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/daemons/abi"
	pb "github.com/dactyl-os/dactyl/ipc/machine"
)

// control is the machine service with the answers as codes.
type control struct {
	*world
	pb.Client
}

func (w *world) control() control { return control{w, pb.NewClient(w.peer("machine"))} }

func (c control) begin(name string, args ...string) (int32, codes.Code) {
	answer, err := c.StartProgram(context.Background(), &pb.StartProgramRequest{Name: name, Args: args})
	return answer.GetPid(), status.Code(err)
}

func (c control) finish(name string) codes.Code {
	_, err := c.StopProgram(context.Background(), &pb.StopProgramRequest{Name: name})
	return status.Code(err)
}

func (c control) restart(name string) (int32, codes.Code) {
	answer, err := c.RestartDaemon(context.Background(), &pb.RestartDaemonRequest{Name: name})
	return answer.GetPid(), status.Code(err)
}

func TestProgramOnRequest(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{Name: "echo", OnRequest: true, Alone: true}, abi.Daemon{Name: "always"}))
	c := w.control()
	if d := w.daemon(c.Client, "echo"); d.State != idle || d.Pid != 0 || !d.OnRequest {
		t.Errorf("before it is requested: %v", d)
	}
	w.refused("echo")
	first, code := c.begin("echo", "--name", "a b")
	if code != codes.OK || first == 0 {
		t.Fatal(first, code)
	}
	if text, _ := w.tell("echo", "args"); text != "echo --name a b\n" {
		t.Errorf("arguments %q", text)
	}
	if pid, code := c.begin("echo", "--name", "a b"); pid != first || code != codes.OK {
		t.Errorf("the same again: %d %v, want %d", pid, code, first)
	}
	second, code := c.begin("echo", "--name", "c")
	if code != codes.OK || second == first {
		t.Errorf("with other arguments: %d %v", second, code)
	}
	if pid, code := c.restart("echo"); code != codes.OK || pid == second {
		t.Errorf("restart: %d %v", pid, code)
	}
	if text, _ := w.tell("echo", "args"); text != "echo --name c\n" {
		t.Errorf("arguments after a restart: %q", text)
	}
	if d := w.daemon(c.Client, "echo"); strings.Join(d.Args, " ") != "--name c" || d.State != up {
		t.Error(d)
	}
	if code := c.finish("echo"); code != codes.OK {
		t.Error(code)
	}
	if d := w.daemon(c.Client, "echo"); d.State != idle || d.Pid != 0 {
		t.Errorf("after it was stopped: %v", d)
	}
}

func TestRequestsThatCannotBeMet(t *testing.T) {
	w := startWorld(t, testSystem(abi.Daemon{Name: "misfit", OnRequest: true}, abi.Daemon{Name: "always"}))
	c := w.control()
	begin := func(name string, args ...string) codes.Code { _, code := c.begin(name, args...); return code }
	for what, test := range map[string]struct{ got, want codes.Code }{
		"start an unknown name":        {begin("nobody"), codes.NotFound},
		"stop an unknown name":         {c.finish("nobody"), codes.NotFound},
		"start what runs always":       {begin("always"), codes.FailedPrecondition},
		"stop what runs always":        {c.finish("always"), codes.FailedPrecondition},
		"an argument with a NUL":       {begin("misfit", "a\x00b"), codes.InvalidArgument},
		"very many arguments":          {begin("misfit", make([]string, maxArgs+1)...), codes.InvalidArgument},
		"a very long argument":         {begin("misfit", strings.Repeat("a", maxArgBytes+1)), codes.InvalidArgument},
		"start what cannot be started": {begin("misfit"), codes.Aborted},
	} {
		if test.got != test.want {
			t.Errorf("%s: %v, want %v", what, test.got, test.want)
		}
	}
	if _, code := c.restart("misfit"); code != codes.Aborted {
		t.Errorf("restart of what has given up: %v", code)
	}
	if code := c.finish("misfit"); code != codes.OK || w.daemon(c.Client, "misfit").State != idle {
		t.Errorf("stop of what has given up: %v", code)
	}
	if _, code := c.restart("misfit"); code != codes.FailedPrecondition {
		t.Errorf("restart of what is idle: %v", code)
	}
}

// Giver and receivers have users and user namespaces of their own; still the
// receiver's group can read what the giver makes, and nobody else can.
func TestFilesFromOneDaemonForAnother(t *testing.T) {
	w := startWorld(t, testSystem(
		abi.Daemon{Name: "giver", Gives: true},
		abi.Daemon{Name: "taker", From: []string{"giver"}},
		abi.Daemon{Name: "other", From: []string{"giver"}},
	))
	for _, name := range []string{"giver", "taker", "other"} {
		w.report(name)
	}
	for command, want := range map[string]string{
		"give /run/from/giver/taker/key secret": "<nil>",
		"give /run/from/giver/key secret":       "open /run/from/giver/key.new: permission denied",
	} {
		if text, err := w.tell("giver", command); strings.TrimSpace(text) != want || err != nil {
			t.Errorf("%s: %s %v", command, text, err)
		}
	}
	for _, test := range []struct{ who, command, want string }{
		{"taker", "read /run/from/giver/taker/key", "secret <nil>"},
		{"taker", "give /run/from/giver/taker/more x", "open /run/from/giver/taker/more.new: read-only file system"},
		{"other", "read /run/from/giver/taker/key", " open /run/from/giver/taker/key: no such file or directory"},
	} {
		if text, err := w.tell(test.who, test.command); strings.TrimRight(text, "\n") != test.want || err != nil {
			t.Errorf("%s: %s: %q %v", test.who, test.command, text, err)
		}
	}
	var st syscall.Stat_t
	if err := syscall.Stat(w.path("/run/from/giver/taker/key"), &st); err != nil || st.Uid != 60001 || st.Gid != 60002 || st.Mode&0o777 != 0o640 {
		t.Errorf("the file is %d:%d %o (%v)", st.Uid, st.Gid, st.Mode&0o777, err)
	}
}
