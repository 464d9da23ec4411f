package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/words"
)

const addContextLong = `Add a machine from the three PEM files that "dactyl cert issue --out" writes:
ca.crt, tls.crt and tls.key.`

func addContextFlags(f *pflag.FlagSet) {
	f.String("from", ".", "`directory` with ca.crt, tls.crt and tls.key")
	f.String("server-name", "", "`name` in the machine's certificate, where the address only forwards to it")
}

func addContext(c *call) error {
	m := machine{Name: c.args[0], ServerName: c.flag("server-name")}
	if c.address == "" {
		return fail(exitUsage, "context add needs --address")
	}
	var err error
	if m.Address, err = withPort(c.address); err != nil {
		return err
	}
	for name, to := range map[string]*string{fileCA: &m.Authority, fileCertificate: &m.Certificate, fileKey: &m.Key} {
		b, err := os.ReadFile(filepath.Join(c.flag("from"), name))
		if err != nil {
			return err
		}
		*to = string(b)
	}
	if _, err := m.clientTLS(); err != nil {
		return err
	}
	cert, err := parseCertificate(fileCertificate, m.Certificate)
	if err != nil {
		return err
	}
	m.Life = lifeOf(cert)
	s, err := c.openStore()
	if err != nil {
		return err
	}
	return s.update(func(all *contexts) error {
		if all.find(m.Name) != nil {
			return fail(exitRefused, "there is a context %s already", m.Name)
		}
		all.put(m)
		all.Current = first(all.Current, m.Name)
		return nil
	})
}

func listContexts(c *call) error {
	s, err := c.openStore()
	if err != nil {
		return err
	}
	all, err := s.load()
	if err != nil {
		return err
	}
	type shown struct {
		Current bool   `json:"current"`
		Name    string `json:"name"`
		Address string `json:"address"`
		Role    string `json:"role"`
		Expires string `json:"expires"`
	}
	current := first(c.context, os.Getenv("DACTYL_CONTEXT"), all.Current)
	list := struct {
		Contexts []shown `json:"contexts"`
	}{[]shown{}}
	t := table{header: []string{"CURRENT", "NAME", "ADDRESS", "ROLE", "EXPIRES"}}
	for _, m := range all.Contexts {
		line := shown{Current: m.Name == current, Name: m.Name, Address: m.Address}
		if cert, err := parseCertificate(m.Name, m.Certificate); err == nil {
			line.Role, line.Expires = words.Of(auth.RoleOf(cert)), moment(cert.NotAfter)
		}
		list.Contexts = append(list.Contexts, line)
		t.add(yes(line.Current), line.Name, line.Address, line.Role, line.Expires)
	}
	if c.output == asTable {
		return t.write(c.stdout)
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return c.showJSON(b)
}

// changeContext does something to the context that the first argument names.
func changeContext(c *call, change func(all *contexts, name string)) error {
	s, err := c.openStore()
	if err != nil {
		return err
	}
	return s.update(func(all *contexts) error {
		if all.find(c.args[0]) == nil {
			return fail(exitNotFound, "no context %q; dactyl context list shows which there are", c.args[0])
		}
		change(all, c.args[0])
		return nil
	})
}

func useContext(c *call) error {
	return changeContext(c, func(all *contexts, name string) { all.Current = name })
}

func removeContext(c *call) error {
	if err := c.consent("Forget context %s and its private key? Without another admin nobody can manage the machine then.", c.args[0]); err != nil {
		return err
	}
	return changeContext(c, (*contexts).remove)
}

// contextNames completes the name of a context.
func contextNames(c *call) (names []string) {
	s, err := c.openStore()
	if err != nil {
		return nil
	}
	all, err := s.load()
	if err != nil {
		return nil
	}
	for _, m := range all.Contexts {
		names = append(names, fmt.Sprintf("%s\t%s", m.Name, m.Address))
	}
	return names
}
