package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"io/fs"
	"path"
	"time"
)

// partLife is how long the certificate of a part of Kubernetes lasts. The last third of it
// is for renewing: eight hours in which trustd may be down.
const partLife = 24 * time.Hour

// share is where each part finds what is made for it, in a folder of its own that
// PID 1 makes and that only trustd and the part can read. It is memory: a boot empties it.
type share interface {
	has(part string) (bool, error)
	read(name string) ([]byte, error)         // fs.ErrNotExist
	create(name string, content []byte) error // fs.ErrExist; of two writers one succeeds
	replace(name string, content []byte) error
}

// A round goes through the parts and gives them what they lack.
type round struct {
	e        *engine
	identity *identity
	written  []string // files
	absent   []string // parts that this image does not have
	schedule
}

// schedule is what a round has found about when to make the next.
type schedule struct {
	found bool
	next  time.Time // when the first certificate is to be renewed; zero if there is none
	made  time.Time // when the last one was made
}

// prepare gives every part all that it is to have. What is there already and right is
// left as it is.
func (e *engine) prepare(w wish) (*round, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, err := openIdentity(e.readOrCreate, e.readOrCreate, e.random)
	if err != nil {
		return nil, err
	}
	return e.roundLocked(i, parts(w), (*round).give)
}

// renew replaces certificates whose time has come by ones for the same names. What a
// part was never given, it is not given now: that takes names, which kubed knows.
func (e *engine) renew() (*round, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, err := openIdentity(e.readOnly, e.readOrCreate, e.random)
	if errors.Is(err, fs.ErrNotExist) { // no Kubernetes on this machine
		e.schedule = schedule{found: true}
		return &round{}, nil
	}
	if err != nil {
		return nil, err
	}
	return e.roundLocked(i, parts(wish{}), (*round).renew)
}

func (e *engine) roundLocked(i *identity, all []part, visit func(*round, part) error) (*round, error) {
	r := &round{e: e, identity: i, schedule: schedule{found: true}}
	for _, p := range all {
		there, err := e.share.has(p.name)
		if err != nil {
			return nil, err
		}
		if !there {
			r.absent = append(r.absent, p.name)
			continue
		}
		if err := visit(r, p); err != nil {
			return nil, err
		}
	}
	e.schedule = r.schedule
	return r, nil
}

// due says that certificates have to be looked at: trustd has just started, the time
// of one has come, or the clock was set back to before one was made.
func (e *engine) due() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, now := e.schedule, e.clock.now()
	return !s.found || !s.next.IsZero() && (!now.Before(s.next) || now.Add(clockSkew).Before(s.made))
}

func (r *round) give(p part) error {
	for _, one := range p.pairs {
		if err := r.givePair(path.Join(p.name, one.file), one); err != nil {
			return err
		}
	}
	for _, one := range p.files {
		if err := r.giveFile(path.Join(p.name, one.name), one.content(r.identity)); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) renew(p part) error {
	for _, one := range p.pairs {
		name := path.Join(p.name, one.file)
		c, err := r.e.shared(name)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		one.subject = subjectOf(c)
		if err := r.givePair(name, one); err != nil {
			return err
		}
	}
	return nil
}

// givePair sees that there is a key, and a certificate for it that can stay. A key
// stays until the next boot: its reader opens two files, one after the other, and
// whichever certificate it finds is for the key that it finds. The key comes first.
func (r *round) givePair(name string, p pair) error {
	key, err := r.key(name + ".key")
	if err != nil {
		return err
	}
	c, err := r.e.shared(name)
	if err != nil {
		return err
	}
	ca := r.identity.authorities[p.ca]
	if p.fault(c, key, ca, r.e.clock.now()) != "" {
		if c, err = ca.issue(leaf{subject: p.subject, key: key.Public(), ends: r.e.clock.now().Add(partLife)}); err != nil {
			return err
		}
		if err := r.write(name+".crt", encodePEM(pemCertificate, c.Raw)); err != nil {
			return err
		}
	}
	if at := renewal(c); r.next.IsZero() || at.Before(r.next) {
		r.next = at
	}
	if made := c.NotAfter.Add(-partLife); made.After(r.made) {
		r.made = made
	}
	return nil
}

// key returns what the file keeps, and a new one if that is none.
func (r *round) key(name string) (*ecdsa.PrivateKey, error) {
	kept, err := r.e.share.read(name)
	if err == nil {
		if key, err := parseKey(name, kept); err == nil {
			return key, nil
		}
	}
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, err
	}
	key, kept, err := makeKey(r.e.random)
	if err != nil {
		return nil, err
	}
	if !missing {
		return key, r.write(name, kept)
	}
	err = r.e.share.create(name, kept)
	if errors.Is(err, fs.ErrExist) { // another trustd was quicker
		if kept, err = r.e.share.read(name); err != nil {
			return nil, err
		}
		return parseKey(name, kept)
	}
	r.written = append(r.written, name)
	return key, err
}

func (r *round) giveFile(name string, content []byte) error {
	kept, err := r.e.share.read(name)
	if err == nil && bytes.Equal(kept, content) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.write(name, content)
}

func (r *round) write(name string, content []byte) error {
	if err := r.e.share.replace(name, content); err != nil {
		return err
	}
	r.written = append(r.written, name)
	return nil
}

// shared returns the certificate that a part has, nil if it has none that can be read.
func (e *engine) shared(name string) (*x509.Certificate, error) {
	kept, err := e.share.read(name + ".crt")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := parseCertificate(name, kept)
	if err != nil {
		return nil, nil
	}
	return c, nil
}

// fault says why a certificate in use must be replaced; "" if it need not.
func (p pair) fault(c *x509.Certificate, key *ecdsa.PrivateKey, ca *authority, now time.Time) string {
	switch {
	case c == nil:
		return "is not there"
	case c.CheckSignatureFrom(ca.certificate) != nil:
		return "is not of this CA"
	case !key.PublicKey.Equal(c.PublicKey):
		return "is for another key"
	case !p.same(subjectOf(c)):
		return "is for other names"
	case !now.Before(renewal(c)):
		return "ends soon"
	case now.Add(partLife + clockSkew).Before(c.NotAfter):
		return "was made while the clock was ahead"
	}
	return ""
}

// renewal is when a certificate has to be replaced.
func renewal(c *x509.Certificate) time.Time { return c.NotAfter.Add(-partLife / 3) }
