package vm

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Dactyl is the dactyl command with a context for a machine, whose admin it is.
type Dactyl struct {
	t       *testing.T
	program string
	env     []string
}

// Dactyl builds the command for the test. Its context is for the address that the machine
// has now: after PowerOn there is another.
func (r *Running) Dactyl() *Dactyl {
	r.t.Helper()
	dir := r.t.TempDir()
	d := &Dactyl{r.t, filepath.Join(dir, "dactyl"), append(os.Environ(), "DACTYL_CONFIG="+filepath.Join(dir, "config"))}
	build := exec.CommandContext(Context(r.t), "go", "build", "-o", d.program, "./ctl")
	build.Dir = repository(r.t)
	if out, err := build.CombinedOutput(); err != nil {
		r.t.Fatalf("build the command: %v: %s", err, out)
	}
	if err := r.Identity.WriteFiles(dir); err != nil {
		r.t.Fatal(err)
	}
	d.Run("context", "add", "machine", "--from", dir, "--address", r.API)
	return d
}

// Command is the command with these arguments, to be started.
func (d *Dactyl) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.program, args...)
	cmd.Env = d.env
	return cmd
}

// Try runs the command with an input, which may be nil, and returns what it prints and its
// exit code.
func (d *Dactyl) Try(stdin io.Reader, args ...string) (string, int) {
	d.t.Helper()
	cmd := d.Command(Context(d.t), append(args, "--timeout="+patience.String())...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		d.t.Fatalf("dactyl %s: %v", strings.Join(args, " "), err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Run is Try without input where another exit code than 0 fails the test.
func (d *Dactyl) Run(args ...string) string {
	d.t.Helper()
	out, code := d.Try(nil, args...)
	if code != 0 {
		d.t.Fatalf("dactyl %s: exit code %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}
