package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/trust"
)

const (
	authorityFile = "authority.pem"
	secretFile    = "secret"
	claimFile     = "claim.der"
	toldFile      = "told"

	// maxWrong proofs in a row make the code anew: whoever types it makes fewer mistakes.
	maxWrong = 10
	// minCodeLife is how long a code lasts at least: long enough to be typed.
	minCodeLife = time.Minute

	serverLife = 24 * time.Hour
	clientLife = 24 * time.Hour       // when the asker does not say
	maxLife    = 365 * 24 * time.Hour // of a client certificate, and of the owner's first
)

// store keeps small files by name. A write has happened whole, and will survive
// a power cut, when it returns without an error.
type store interface {
	read(name string) ([]byte, error)         // fs.ErrNotExist
	create(name string, content []byte) error // fs.ErrExist; of two writers one succeeds
	replace(name string, content []byte) error
	list(folder string) ([]string, error) // names with the folder, sorted
	remove(name string) error
}

// engine decides who gets which certificate. It keeps everything in its store,
// so that two of them over one store agree.
type engine struct {
	store     store
	share     share
	clock     *clock
	random    io.Reader
	authority *authority

	mu       sync.Mutex // guards what follows, and makes claims and rounds one after the other
	wrong    int        // wrong proofs in a row
	changed  time.Time  // when wrong proofs last changed the code
	schedule schedule   // of Kubernetes' certificates
}

// openEngine reads the machine's identity from s, or makes one there.
func openEngine(s store, given share, c *clock, random io.Reader) (*engine, error) {
	e := &engine{store: s, share: given, clock: c, random: random}
	kept, err := e.readOrCreate(authorityFile, func() ([]byte, error) { return makeAuthority(titles[osCA], random) })
	if err != nil {
		return nil, err
	}
	if e.authority, err = parseAuthority(authorityFile, kept, random); err != nil {
		return nil, err
	}
	if _, err := e.readOrCreate(secretFile, e.newSecret); err != nil {
		return nil, err
	}
	if _, err := e.secret(); err != nil {
		return nil, err
	}
	if _, err := e.claimed(); err != nil {
		return nil, err
	}
	return e, e.recall()
}

// readOnly is a source that makes nothing.
func (e *engine) readOnly(name string, _ func() ([]byte, error)) ([]byte, error) {
	return e.store.read(name)
}

// readOrCreate is a source that makes what is not there.
func (e *engine) readOrCreate(name string, content func() ([]byte, error)) ([]byte, error) {
	kept, err := e.store.read(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return kept, err
	}
	made, err := content()
	if err != nil {
		return nil, err
	}
	if err := e.store.create(name, made); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return e.store.read(name)
}

// pairing returns the code, which is empty once the machine is claimed, and
// the SHA-256 of the CA.
func (e *engine) pairing() (code, fingerprint string, err error) {
	sum := sha256.Sum256(e.authority.certificate.Raw)
	fingerprint = hex.EncodeToString(sum[:])
	if owner, err := e.claimed(); err != nil || owner != nil {
		return "", fingerprint, err
	}
	secret, err := e.secret()
	if err != nil {
		return "", fingerprint, err
	}
	return trust.Code{Secret: secret, Fingerprint: trust.FingerprintOf(e.authority.certificate.Raw)}.String(), fingerprint, nil
}

// claim hands the first admin certificate to whoever knows the code, and again
// to the same key. told is the claimer's clock.
func (e *engine) claim(csr, proof []byte, told time.Time) (certificate, confirm []byte, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	secret, err := e.secret()
	if err != nil {
		return nil, nil, err
	}
	right := trust.Equal(proof, trust.Proof(secret, e.authority.certificate.Raw, csr))
	owner, err := e.claimed()
	if err == nil && owner == nil {
		if !right {
			return nil, nil, e.refuseLocked()
		}
		e.wrong = 0
		owner, err = e.makeOwnerLocked(csr, told)
	}
	if err != nil {
		return nil, nil, err
	}
	if !right || !isKeyOf(csr, owner) {
		return nil, nil, status.Error(codes.FailedPrecondition, "this machine is already claimed: ask its owner for a certificate")
	}
	return owner.Raw, trust.Confirm(secret, owner.Raw, e.authority.certificate.Raw), nil
}

// makeOwnerLocked signs the first admin certificate. That it is in the store is the
// claim: one write, before anybody hears of it. It returns the owner there is
// in the end, who may be one that another process has just made.
func (e *engine) makeOwnerLocked(csr []byte, told time.Time) (*x509.Certificate, error) {
	key, err := keyOf(csr)
	if err != nil {
		return nil, err
	}
	if err := e.tellLocked(told); err != nil {
		return nil, err
	}
	certificate, err := e.authority.sign(leaf{client("owner", string(admin)), key, e.clock.now().Add(maxLife)})
	if err != nil {
		return nil, err
	}
	if err := e.store.create(claimFile, certificate); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return e.claimed()
}

// refuseLocked counts a wrong proof and makes the code anew when it is time.
func (e *engine) refuseLocked() error {
	now := e.clock.machine()
	e.wrong++
	if e.wrong < maxWrong || now.Sub(e.changed).Abs() < minCodeLife {
		return status.Error(codes.PermissionDenied, "wrong pairing code: read it again from the machine's console")
	}
	content, err := e.newSecret()
	if err != nil {
		return err
	}
	if err := e.store.replace(secretFile, content); err != nil {
		return err
	}
	e.wrong, e.changed = 0, now
	return status.Error(codes.PermissionDenied, "wrong pairing code, too many times: the machine's console now shows a new one")
}

// claimed returns the owner's first certificate, nil while there is none.
func (e *engine) claimed() (*x509.Certificate, error) {
	der, err := e.store.read(claimFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", claimFile, errDamaged, err)
	}
	return c, nil
}

func (e *engine) newSecret() ([]byte, error) {
	var b [8]byte
	if _, err := io.ReadFull(e.random, b[:]); err != nil {
		return nil, fmt.Errorf("make a pairing code: %w", err)
	}
	return b[:], nil
}

func (e *engine) secret() (trust.Secret, error) {
	b, err := e.store.read(secretFile)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%s: %w: %d bytes instead of 8", secretFile, errDamaged, len(b))
	}
	return trust.NewSecret([8]byte(b)), nil
}

// tellLocked takes note of a later time than the machine's.
func (e *engine) tellLocked(t time.Time) error {
	if t.After(latest) {
		return status.Errorf(codes.InvalidArgument, "time_unix: %s cannot be now", t.Format(time.DateOnly))
	}
	if !t.After(e.clock.now()) {
		return nil
	}
	e.clock.tell(t)
	return e.store.replace(toldFile, []byte(t.UTC().Format(time.RFC3339)))
}

// recall reads what was told to an earlier trustd, which is at least a time that is over.
func (e *engine) recall() error {
	kept, err := e.store.read(toldFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if t, err := time.Parse(time.RFC3339, string(kept)); err == nil && !t.After(latest) {
		e.clock.tell(t) // a damaged file is no loss: somebody will tell again
	}
	return nil
}

// remember writes down how late it is where the machine's clock does not know, so that
// the next trustd begins there.
func (e *engine) remember() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.clock.estimate()
	if t.Sub(e.clock.machine()) < maxAhead {
		return nil
	}
	return e.store.replace(toldFile, []byte(t.UTC().Format(time.RFC3339)))
}

// isKeyOf says whether the CSR is signed with the certificate's key.
func isKeyOf(csr []byte, c *x509.Certificate) bool {
	key, err := keyOf(csr)
	if err != nil {
		return false
	}
	x, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return false
	}
	y, err := x509.MarshalPKIXPublicKey(c.PublicKey)
	return err == nil && bytes.Equal(x, y)
}
