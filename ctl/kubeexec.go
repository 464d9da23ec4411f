package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
)

// execVersion is the form in which kubectl is told a credential; it has not changed
// since Kubernetes 1.22.
const execVersion = "client.authentication.k8s.io/v1"

// kubeExec tells kubectl to run this command for a credential.
type kubeExec struct {
	APIVersion string   `json:"apiVersion"`
	Command    string   `json:"command"`
	Args       []string `json:"args"`
	Hint       string   `json:"installHint"`
	Mode       string   `json:"interactiveMode"`
}

// execUser names this program and this context, wherever kubectl is started.
func (c *call) execUser(s *session) (kubeUser, error) {
	self, err := os.Executable()
	if err != nil {
		return kubeUser{}, err
	}
	store, err := filepath.Abs(string(s.store))
	if err != nil {
		return kubeUser{}, err
	}
	args := []string{"kube", "credential", "--store", store, "--context", s.machine.Name, "--address", s.machine.Address,
		"--name", c.kubeName(s), "--ttl", c.duration("ttl").String()}
	return kubeUser{Exec: &kubeExec{execVersion, self, args, "this kubeconfig needs the dactyl command", "Never"}}, nil
}

func credentialFlags(f *pflag.FlagSet) {
	f.String("name", "", "the `user` in Kubernetes")
	f.Duration("ttl", kubeTTL, "how `long` a certificate is valid")
}

// execCredential is what kubectl reads.
type execCredential struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Status     execStatus `json:"status"`
}

type execStatus struct {
	Expires     time.Time `json:"expirationTimestamp"`
	Certificate string    `json:"clientCertificateData"`
	Key         string    `json:"clientKeyData"`
}

// showCredential prints a certificate for kubectl. It is kept between runs of
// kubectl, for two thirds of its life: then no call to the machine is needed.
func showCredential(c *call) error {
	m, s, err := c.options.machine()
	if err != nil {
		return err
	}
	// One machine may follow another under the same name here; its CA tells them apart.
	of := sha256.Sum256([]byte(m.Authority + "\x00" + c.flag("name")))
	kept := filepath.Join(string(s), "kubernetes", fmt.Sprintf("%x.json", of[:16]))
	credential, err := readCredential(kept, c.duration("ttl"))
	if err != nil {
		err = c.withMachine(func(s *session) error {
			credential, err = c.newCredential(s, kept)
			return err
		})
	}
	if err != nil {
		return err
	}
	_, err = c.stdout.Write(append(credential, '\n'))
	return err
}

// readCredential returns what is kept, if it is good for a while.
func readCredential(path string, ttl time.Duration) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var kept execCredential
	if err := json.Unmarshal(b, &kept); err != nil {
		return nil, err
	}
	if time.Until(kept.Status.Expires) < ttl/3 {
		return nil, fmt.Errorf("%s ends soon", path)
	}
	return b, nil
}

func (c *call) newCredential(s *session, path string) ([]byte, error) {
	issued, err := c.issueKube(s, c.kubeName(s), c.duration("ttl"))
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(execCredential{execVersion, "ExecCredential", execStatus{issued.notAfter.UTC(), issued.certificate, issued.key}})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return b, writeSecret(path, b)
}
