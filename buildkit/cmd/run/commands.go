package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/dactyl-os/dactyl/test/vm"
)

const command = "out/dactyl"

// dactyl is the dactyl command, with a store of its own beside the machine.
type dactyl struct{ address, config string }

// run shows what the command prints.
func (d dactyl) run(ctx context.Context, args ...string) error {
	cmd := d.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("dactyl %s: %w", args[0], err)
	}
	return nil
}

// output returns what the command prints.
func (d dactyl) output(ctx context.Context, args ...string) ([]byte, error) {
	return output(d.command(ctx, args...))
}

func (d dactyl) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Env = append(os.Environ(), "DACTYL_CONFIG="+d.config)
	// Ctrl-C is for this program; the command ends by its context.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// kubeStatus is what is needed of dactyl.kube.v1's GetStatusResponse.
type kubeStatus struct {
	Ready      bool
	Node       string
	Message    string
	State      string // the name of a ClusterState's value
	Components []struct {
		Name    string
		Healthy bool
	}
}

func (d dactyl) kubeStatus(ctx context.Context) (kubeStatus, error) {
	var s kubeStatus
	text, err := d.output(ctx, "kube", "status", "-o", "json", "--address", d.address)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}

// kubectl is the user's, or the one that the scenarios build.
type kubectl struct{ program, config string }

func findKubectl(ctx context.Context, config string) (kubectl, error) {
	if _, err := exec.LookPath("kubectl"); err == nil {
		return kubectl{"kubectl", config}, nil
	}
	program, err := vm.BuildKubectl(ctx, ".")
	return kubectl{program, config}, err
}

func (k kubectl) output(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, k.program, append([]string{"--kubeconfig", k.config}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return output(cmd)
}

func output(cmd *exec.Cmd) ([]byte, error) {
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cmd.Args[0], err, strings.TrimSpace(complaint.String()))
	}
	return out, nil
}
