package vm

import (
	"encoding/json"
	"os"
	"testing"
)

// attachEnv names a file that Running.Describe has written: scenarios that share a
// machine then use that one, which runs already, instead of booting their own. It is for
// whoever writes a scenario: without KVM, a Ready node is a minute or more away.
const attachEnv = "DACTYL_MACHINE"

// description is a running machine as another process finds it.
type description struct {
	API       string
	Forwarded map[int]string
	savedIdentity
}

// Describe writes how to reach this machine, with its admin's key.
func (r *Running) Describe(path string) error {
	id, err := r.Identity.save()
	if err != nil {
		return err
	}
	text, err := json.Marshal(description{r.API, r.forwarded, id})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// attach takes the machine that path describes.
func attach(t *testing.T, s *Shared, path string) *claimed {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	id, err := d.identity()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	c := s.prepare(t)
	c.Config.NIC = UserNetwork // nobody has recorded what it sends
	c.Identity = id
	c.Machine = &Machine{API: d.API, Serial: newSerial(), forwarded: d.Forwarded, ended: make(chan struct{})}
	return c
}
