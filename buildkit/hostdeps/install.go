package hostdeps

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Missing returns the packages of the list that are not installed. It asks
// dpkg-query once, so it is quick enough to run before every build.
func Missing(ctx context.Context, packages []Package) ([]Package, error) {
	args := []string{"-W", "-f", "${binary:Package} ${db:Status-Status}\n"}
	for _, p := range packages {
		args = append(args, p.Name)
	}
	cmd := exec.CommandContext(ctx, "dpkg-query", args...)
	var msg bytes.Buffer
	cmd.Stderr = &msg
	out, err := cmd.Output()
	// Exit code 1 says that some package is unknown, which is the answer sought.
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("dpkg-query: %w: %s", err, strings.TrimSpace(msg.String()))
	}
	have := installed(string(out))
	var missing []Package
	for _, p := range packages {
		if !have[p.Name] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

// installed reads lines of "name:architecture status".
func installed(lines string) map[string]bool {
	have := map[string]bool{}
	for line := range strings.Lines(lines) {
		name, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, ":")
		if status == "installed" {
			have[name] = true
		}
	}
	return have
}

// Install installs the packages with apt-get, as root or through sudo, and names each
// with its reason on w. apt-get's own output goes to w too. Nothing to install is
// nothing to do.
func Install(ctx context.Context, packages []Package, w io.Writer) error {
	if len(packages) == 0 {
		return nil
	}
	var names []string
	for _, p := range packages {
		fmt.Fprintf(w, "install %-20s %s\n", p.Name, p.Reason)
		names = append(names, p.Name)
	}
	if err := aptGet(ctx, w, "update", "-q"); err != nil {
		return err
	}
	// Another apt may be running, on a fresh machine above all: wait for it.
	install := []string{"install", "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"}
	return aptGet(ctx, w, append(install, names...)...)
}

func aptGet(ctx context.Context, w io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "env", append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get"}, args...)...)
	if os.Geteuid() != 0 {
		cmd = exec.CommandContext(ctx, "sudo", cmd.Args...)
		cmd.Stdin = os.Stdin // for the password
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", args[0], err)
	}
	return nil
}
