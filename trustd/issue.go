package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// role is the organisation in a client's certificate.
type role string

const (
	reader   role = "reader"
	operator role = "operator"
	admin    role = "admin"
)

var roles = []role{reader, operator, admin}

const (
	issuedFolder = "issued"
	// maxClients is how many live client certificates are on record; beyond it
	// none is issued, for one that is not on record could not be revoked.
	maxClients = 1024
	// keptServers is how many of routerd's own certificates stay on record: it
	// gets a new one with each restart and each change of address.
	keptServers = 4
	// maxCSRBytes is several times what a CSR of an accepted key needs.
	maxCSRBytes = 16 << 10
	// maxNames is how many names of each kind a serving certificate carries.
	maxNames = 64
)

// issueClient signs a client certificate; 0 seconds mean clientLife.
func (e *engine) issueClient(csr []byte, r role, name string, seconds int64) ([]byte, error) {
	life := clientLife
	switch {
	case !slices.Contains(roles, r):
		return nil, status.Errorf(codes.InvalidArgument, "role: %q is none: reader, operator or admin", string(r))
	case !isClientName(name):
		return nil, status.Errorf(codes.InvalidArgument, "name: %q cannot be one: 1 to 64 letters, digits and . _ @ -, a letter or digit first", name)
	case seconds < 0 || seconds > int64(maxLife/time.Second):
		return nil, status.Errorf(codes.InvalidArgument, "ttl_s: %d is not between 1 and %d (a year); 0 means 24 hours", seconds, int64(maxLife/time.Second))
	case seconds > 0:
		life = time.Duration(seconds) * time.Second
	}
	key, err := keyOf(csr)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	issued, err := e.prune()
	if err != nil {
		return nil, err
	}
	if clients := slices.DeleteFunc(issued, isServer); len(clients) >= maxClients {
		return nil, status.Errorf(codes.ResourceExhausted, "%d client certificates are in force: wait until some have ended, or ask for shorter ones", len(clients))
	}
	return e.issue(leaf{key: key, name: name, role: r, ends: e.clock().Add(life)})
}

// issueServer signs routerd's certificate for the machine's own names. Its record
// is for people to look at: where there is no room for it, on a full STATE, it is
// left out, since without the API nobody could make room.
func (e *engine) issueServer(csr []byte, names subjectNames) ([]byte, error) {
	key, err := keyOf(csr)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	issued, err := e.prune()
	if err != nil {
		return nil, err
	}
	servers := slices.DeleteFunc(issued, func(c *x509.Certificate) bool { return !isServer(c) })
	slices.SortFunc(servers, func(a, b *x509.Certificate) int { return b.NotAfter.Compare(a.NotAfter) })
	for i := keptServers - 1; i < len(servers); i++ {
		if err := e.store.remove(recordOf(servers[i])); err != nil {
			return nil, err
		}
	}
	c, err := e.sign(leaf{key: key, name: names.dns[0], ends: e.clock().Add(serverLife), names: names})
	if err != nil {
		return nil, err
	}
	_ = e.store.create(recordOf(c), c.Raw)
	return c.Raw, nil
}

// issue signs and puts on record, in this order: what is not on record has
// never been handed out.
func (e *engine) issue(l leaf) ([]byte, error) {
	c, err := e.sign(l)
	if err != nil {
		return nil, err
	}
	return c.Raw, e.store.create(recordOf(c), c.Raw)
}

func (e *engine) sign(l leaf) (*x509.Certificate, error) {
	der, err := e.authority.sign(l)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read what was just signed: %w", err)
	}
	return c, nil
}

// prune forgets certificates that have ended and returns the others.
func (e *engine) prune() ([]*x509.Certificate, error) {
	all, err := e.issued()
	if err != nil {
		return nil, err
	}
	now := e.clock()
	live := all[:0]
	for _, c := range all {
		if now.Before(c.NotAfter) {
			live = append(live, c)
		} else if err := e.store.remove(recordOf(c)); err != nil {
			return nil, err
		}
	}
	return live, nil
}

// issued returns what is on record, by serial. It passes over what it cannot
// read, for a damaged record must not cost the machine its API, and over what
// another trustd has just removed.
func (e *engine) issued() ([]*x509.Certificate, error) {
	names, err := e.store.list(issuedFolder)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, name := range names {
		der, err := e.store.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if c, err := x509.ParseCertificate(der); err == nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// certificates returns the CA, the owner's certificate and all that is on
// record and has not ended.
func (e *engine) certificates() ([]*x509.Certificate, error) {
	out := []*x509.Certificate{e.authority.certificate}
	owner, err := e.claimed()
	if err != nil {
		return nil, err
	}
	if owner != nil {
		out = append(out, owner)
	}
	issued, err := e.issued()
	if err != nil {
		return nil, err
	}
	now := e.clock()
	return slices.DeleteFunc(append(out, issued...), func(c *x509.Certificate) bool { return !now.Before(c.NotAfter) }), nil
}

func isServer(c *x509.Certificate) bool {
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
}

func recordOf(c *x509.Certificate) string {
	return path.Join(issuedFolder, serialOf(c)+".der")
}

func serialOf(c *x509.Certificate) string { return fmt.Sprintf("%032x", c.SerialNumber) }

func fingerprintOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// keyOf returns the key of a CSR that is signed with it. Everything else in a
// CSR is what somebody would like to be.
func keyOf(csr []byte) (crypto.PublicKey, error) {
	if len(csr) > maxCSRBytes {
		return nil, status.Errorf(codes.InvalidArgument, "csr: %d bytes, at most %d", len(csr), maxCSRBytes)
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "csr: not a PKCS#10 request in DER: %v", err)
	}
	switch k := r.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			return nil, status.Errorf(codes.InvalidArgument, "csr: a key on %s: P-256 or more, or Ed25519", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return nil, status.Errorf(codes.InvalidArgument, "csr: an %s key: make an ECDSA or Ed25519 key", r.PublicKeyAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "csr: not signed with its own key: %v", err)
	}
	return r.PublicKey, nil
}

// subjectNames are what a serving certificate is valid for.
type subjectNames struct {
	dns       []string // at least one
	addresses []netip.Addr
}

// machineNames makes a certificate's names of the machine's host name and
// addresses (CIDR). What cannot stand in a certificate is left out: an odd
// name must not cost the machine its API.
func machineNames(host string, cidrs []string) subjectNames {
	var n subjectNames
	if isHostName(host) && !strings.EqualFold(host, "localhost") {
		n.dns = append(n.dns, strings.ToLower(host))
	}
	n.dns = append(n.dns, "localhost")
	n.addresses = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	for _, cidr := range cidrs {
		p, err := netip.ParsePrefix(cidr)
		if err != nil || len(n.addresses) == maxNames {
			continue
		}
		if a := p.Addr().Unmap(); !slices.Contains(n.addresses, a) {
			n.addresses = append(n.addresses, a)
		}
	}
	return n
}

// isClientName admits what can stand in a log line and in a certificate.
func isClientName(s string) bool {
	return s != "" && len(s) <= 64 && isLetterOrDigit(rune(s[0])) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !isLetterOrDigit(r) && !strings.ContainsRune("._@-", r) })
}

// isHostName tells names by RFC 1123.
func isHostName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !isLetterOrDigit(r) && r != '-' }) {
			return false
		}
	}
	return len(s) <= 253
}

func isLetterOrDigit(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
