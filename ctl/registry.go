package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/dactyl-os/dactyl/ipc/pods"
)

const loginLong = `Store a name and a password, or a token, with which the machine pulls images from a
registry, for all pods. The password is asked for, or read from standard input. It is
on the machine only and cannot be read back. A pod's imagePullSecrets are tried too.

REGISTRY is how images' names begin: docker.io, registry.example.org:5000, or a part
of a registry, such as registry.example.org/team. A mirror of a registry gets the
registry's password. The registry itself is not asked: a wrong password shows in the
events of the first pod that needs it.

It takes effect within five minutes, or at once after "dactyl kube restart kubelet".`

func loginFlags(f *pflag.FlagSet) {
	f.StringP("username", "u", "", "`name` at the registry")
}

func registryLogin(c *call) error {
	username := c.flag("username")
	if username == "" {
		return fail(exitUsage, "no user name: want --username NAME")
	}
	password, err := c.password(username, c.args[0])
	if err != nil {
		return err
	}
	return c.withMachine(func(s *session) error {
		_, err := pods.NewClient(s).SetRegistryCredential(c.ctx, &pods.SetRegistryCredentialRequest{Registry: c.args[0], Username: username, Password: password})
		if err != nil {
			return err
		}
		c.note("stored; it takes effect within five minutes, or at once after: dactyl kube restart kubelet")
		return nil
	})
}

// maxPasswordBytes is more than the machine takes, so that the machine refuses what is
// too long.
const maxPasswordBytes = 64 << 10

// password asks for one at a terminal, without showing it, and else reads standard input
// without the end of its last line.
func (c *call) password(username, registry string) (string, error) {
	if c.asks() {
		fmt.Fprintf(os.Stderr, "Password of %s at %s: ", username, registry)
		typed, err := term.ReadPassword(int(c.stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		return string(typed), err
	}
	text, err := io.ReadAll(io.LimitReader(c.stdin, maxPasswordBytes))
	if err != nil {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if password == "" {
		return "", fail(exitUsage, "no password on standard input")
	}
	return password, nil
}

func registryLogout(c *call) error {
	return c.withMachine(func(s *session) error {
		_, err := pods.NewClient(s).RemoveRegistryCredential(c.ctx, &pods.RemoveRegistryCredentialRequest{Registry: c.args[0]})
		return err
	})
}

func registryTable(r *pods.ListRegistryCredentialsResponse) table {
	t := table{header: []string{"REGISTRY", "USERNAME"}}
	for _, one := range r.Credentials {
		t.add(one.Registry, one.Username)
	}
	return t
}

// registryNames completes the name of a registry that there is a password for.
func registryNames(c *call) (names []string) {
	s, err := c.connect()
	if err != nil {
		return nil
	}
	defer s.close()
	answer, err := pods.NewClient(s).ListRegistryCredentials(c.ctx, &pods.ListRegistryCredentialsRequest{})
	if err != nil {
		return nil
	}
	for _, one := range answer.Credentials {
		names = append(names, one.Registry)
	}
	return names
}
