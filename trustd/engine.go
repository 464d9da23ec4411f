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

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

const (
	authorityFile = "authority.pem"
	secretFile    = "secret"
	claimFile     = "claim.der"
	reportedFile  = "told"

	// wrongBurst and wrongEvery limit the rate of wrong proofs of the pairing code: so many
	// at once, then one in each period. A person who types the code makes fewer mistakes. A
	// right proof is not counted and is never refused for the rate of the wrong ones, so
	// that no flood keeps the owner from claiming.
	wrongBurst = 10
	wrongEvery = 6 * time.Second

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
	wrong    bucket     // of wrong proofs
	schedule schedule   // of Kubernetes' certificates
}

// openEngine reads the machine's identity from s, or makes one there.
func openEngine(s store, given share, c *clock, random io.Reader) (*engine, error) {
	e := &engine{store: s, share: given, clock: c, random: random, wrong: bucket{size: wrongBurst, every: wrongEvery}}
	kept, err := e.readOrCreate(authorityFile, func() ([]byte, error) { return makeAuthority(osCA, random) })
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

// claim hands the first admin certificate to a client that knows the code, and again
// to the same key. reported is the time by the client's clock.
func (e *engine) claim(csr, proof []byte, reported time.Time) (certificate, confirm []byte, err error) {
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
		owner, err = e.makeOwnerLocked(csr, reported)
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
func (e *engine) makeOwnerLocked(csr []byte, reported time.Time) (*x509.Certificate, error) {
	key, err := keyOf(csr)
	if err != nil {
		return nil, err
	}
	if err := e.takeTimeLocked(reported); err != nil {
		return nil, err
	}
	certificate, err := e.authority.sign(leaf{subject: client("owner", words.Of(auth.Role_ROLE_ADMIN)), key: key, ends: e.clock.now().Add(maxLife)})
	if err != nil {
		return nil, err
	}
	if err := e.store.create(claimFile, certificate); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return e.claimed()
}

// refuseLocked returns the answer to a wrong proof. The code does not change: it cannot be
// guessed, and a code that changes could be changed while its owner types it.
func (e *engine) refuseLocked() error {
	if !e.wrong.take(e.clock.up()) {
		return status.Errorf(codes.ResourceExhausted, "wrong pairing code, and more than %d others before it: read the code again from the machine's console; a right one is always accepted", wrongBurst)
	}
	return status.Error(codes.PermissionDenied, "wrong pairing code: read it again from the machine's console")
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

// takeTimeLocked records the time that the owner reports, if the machine's clock is behind
// it by more than clockSkew and no time server has confirmed the machine's clock.
func (e *engine) takeTimeLocked(t time.Time) error {
	if t.Sub(e.clock.now()) <= clockSkew || e.clock.confirmed() {
		return nil
	}
	if t.After(e.clock.latest) {
		return status.Errorf(codes.InvalidArgument, "time_unix: %s is more than ten years after this image was built: set the clock of the computer that claims the machine", t.UTC().Format(time.DateOnly))
	}
	e.clock.report(t)
	return e.store.replace(reportedFile, []byte(t.UTC().Format(time.RFC3339)))
}

// recall reads what was reported to an earlier trustd, which is at least a time that is over.
func (e *engine) recall() error {
	kept, err := e.store.read(reportedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	t, err := time.Parse(time.RFC3339, string(kept))
	if err != nil || t.After(e.clock.latest) {
		return e.store.remove(reportedFile) // a time server will correct the clock, or the machine's counts
	}
	e.clock.report(t)
	return nil
}

// remember writes down how late it is where the machine's clock does not know, so that
// the next trustd begins there.
func (e *engine) remember() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.clock.estimate()
	if t.Sub(e.clock.machine()) < clockSkew {
		return nil
	}
	return e.store.replace(reportedFile, []byte(t.UTC().Format(time.RFC3339)))
}

// settle drops a reported time once a time server has confirmed the machine's clock: from
// then on lives are counted from that clock alone, whatever the owner's clock said. It
// returns the time that it has dropped, zero if there was none.
func (e *engine) settle() (dropped time.Time, err error) {
	if e.clock.estimate().IsZero() || !e.clock.confirmed() {
		return time.Time{}, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.store.remove(reportedFile); err != nil {
		return time.Time{}, err
	}
	dropped = e.clock.estimate()
	e.clock.report(time.Time{})
	return dropped, nil
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
