package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// contexts is the file contexts.yaml.
type contexts struct {
	Current  string    `yaml:"current,omitempty"`
	Contexts []machine `yaml:"contexts"`
}

// machine is one context: where a machine is, how it is known, and as whom.
type machine struct {
	Name        string `yaml:"name"`
	Address     string `yaml:"address"`               // host:port
	ServerName  string `yaml:"server_name,omitempty"` // expected in its certificate instead of the address's host
	Authority   string `yaml:"authority,omitempty"`   // the OS CA, PEM
	Certificate string `yaml:"certificate,omitempty"` // the client's, PEM; empty while a claim is unanswered
	Key         string `yaml:"key"`                   // its private key, PEM

	// Life is how long the certificate was good for when it came; it does not say
	// so itself, because all of a machine's certificates begin on the same day.
	Life time.Duration `yaml:"life,omitempty"`
}

func (c *contexts) find(name string) *machine {
	i := slices.IndexFunc(c.Contexts, func(m machine) bool { return m.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Contexts[i]
}

// put adds m or replaces the one of its name.
func (c *contexts) put(m machine) {
	if old := c.find(m.Name); old != nil {
		*old = m
		return
	}
	c.Contexts = append(c.Contexts, m)
	slices.SortFunc(c.Contexts, func(a, b machine) int { return strings.Compare(a.Name, b.Name) })
}

func (c *contexts) remove(name string) {
	c.Contexts = slices.DeleteFunc(c.Contexts, func(m machine) bool { return m.Name == name })
	if c.Current == name {
		c.Current = ""
	}
}

// removeUnclaimed removes the context that an attempt to claim has made, unless
// another command has completed or replaced it in the meantime.
func (c *contexts) removeUnclaimed(m machine) {
	if now := c.find(m.Name); now != nil && now.Certificate == "" && now.Key == m.Key {
		c.remove(m.Name)
	}
}

// store is the directory of contexts.yaml.
type store string

func (o *options) openStore() (store, error) {
	if o.store != "" {
		return store(o.store), nil
	}
	if dir := os.Getenv("DACTYL_CONFIG"); dir != "" {
		return store(dir), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find a place for credentials: %w; set DACTYL_CONFIG", err)
	}
	return store(filepath.Join(dir, "dactyl")), nil
}

func (s store) path() string { return filepath.Join(string(s), "contexts.yaml") }

// load reads the contexts; without a file there are none.
func (s store) load() (*contexts, error) {
	f, err := os.Open(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return &contexts{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if readableByOthers(st) {
		return nil, fail(exitRefused, "%s holds private keys and others can read it: chmod 600 %[1]s", s.path())
	}
	c := new(contexts)
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.path(), err)
	}
	return c, nil
}

// update changes the contexts, alone among all dactyl commands.
func (s store) update(change func(*contexts) error) error {
	if err := makeDirectory(string(s)); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(string(s), ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := lockFile(lock); err != nil { // until it is closed
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	c, err := s.load()
	if err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(c); err != nil {
		return err
	}
	return writeSecret(s.path(), b.Bytes())
}

// makeDirectory makes a directory for secrets, and those above it, so that they are
// still there after a power cut.
func makeDirectory(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	above := filepath.Dir(dir)
	if above != dir {
		if err := makeDirectory(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(above)
}

// writeSecret replaces a file as a whole by one that its owner alone can read.
func writeSecret(path string, content []byte) error { return replaceFile(path, content, 0o600) }

// replaceFile returns when the new file is on the disk: a power cut afterwards does
// not bring the old one back.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".dactyl-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory persists the names in a directory. Tests replace it.
var syncDirectory = syncDir

// machine returns the machine that the flags, the environment or the current
// context name.
func (o *options) machine() (machine, store, error) {
	s, err := o.openStore()
	if err != nil {
		return machine{}, s, err
	}
	c, err := s.load()
	if err != nil {
		return machine{}, s, err
	}
	name := first(o.context, os.Getenv("DACTYL_CONTEXT"), c.Current)
	if name == "" {
		return machine{}, s, fail(exitAuth, "no machine is chosen: claim one (dactyl claim ADDRESS), or choose one (dactyl context use NAME)")
	}
	m := c.find(name)
	if m == nil {
		return machine{}, s, fail(exitNotFound, "no context %q; dactyl context list shows which there are", name)
	}
	if m.Certificate == "" {
		return machine{}, s, fail(exitAuth, "%s was not claimed to the end: run dactyl claim %s --name %s again, with the same code", name, m.Address, name)
	}
	out := *m
	if address := first(o.address, os.Getenv("DACTYL_ADDRESS")); address != "" {
		if out.Address, err = withPort(address); err != nil {
			return machine{}, s, err
		}
	}
	return out, s, nil
}

func first(names ...string) string {
	for _, n := range names {
		if n != "" {
			return n
		}
	}
	return ""
}
