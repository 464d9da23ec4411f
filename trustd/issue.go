package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

const (
	issuedFolder = "issued"
	// maxClients is how many client certificates of the API are on record. Where all of
	// them are valid and of different clients, another client gets none.
	maxClients = 1024
	// keptOwner is how many of the owner's renewals are on record besides, so that no number
	// of other clients keeps the owner from renewing. The newest is the one in use; others
	// may be in use on the owner's other computers.
	keptOwner = 4
	// keptKubernetes is how many of Kubernetes' are: they are short-lived and as many as
	// calls of kubectl. Their records are for people to look at.
	keptKubernetes = 256
	// keptServers is how many of routerd's own certificates stay on record: it
	// gets a new one with each restart and each change of address.
	keptServers = 4
	// maxCSRBytes is several times what a CSR of an accepted key needs.
	maxCSRBytes = 16 << 10
	// maxNames is how many names of each kind a serving certificate carries.
	maxNames = 64
)

// issueClient signs a certificate for a client of the API, on behalf of the client by;
// 0 seconds mean clientLife.
func (e *engine) issueClient(by ipc.Origin, csr []byte, r auth.Role, name string, seconds int64) (*x509.Certificate, error) {
	if !r.Issuable() {
		return nil, status.Errorf(codes.InvalidArgument, "role: a certificate cannot carry %v: want ROLE_READER, ROLE_OPERATOR or ROLE_ADMIN", r)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	from := descent{lineage: by.Lineage, renewal: len(by.Lineage) > 0 && by.Name == name && by.Role == r}
	return e.issueLocked(e.authority, from, csr, words.Of(r), name, seconds)
}

// issueKubernetesClient is the same for Kubernetes' API. It returns the CA too.
func (e *engine) issueKubernetesClient(by ipc.Origin, csr []byte, name string, seconds int64) (certificate *x509.Certificate, ca []byte, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, err := openIdentity(e.readOnly, e.readOrCreate, e.random)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, status.Error(codes.FailedPrecondition, "this machine has no Kubernetes yet: its configuration has no section kubernetes, or kubed has just begun")
	}
	if err != nil {
		return nil, nil, err
	}
	a := i.authorities[kubernetesCA]
	certificate, err = e.issueLocked(a, descent{lineage: by.Lineage}, csr, adminGroup, name, seconds)
	return certificate, a.certificate.Raw, err
}

// issueLocked signs and puts on record, in this order: what is not on record has never
// been handed out.
func (e *engine) issueLocked(a *authority, from descent, csr []byte, group, name string, seconds int64) (*x509.Certificate, error) {
	life := clientLife
	switch {
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
	if from.lineage == nil {
		from.lineage = []string{} // it begins one
	}
	c, err := a.issue(leaf{client(name, group), key, e.clock.now().Add(life), from})
	if err != nil {
		return nil, err
	}
	if err := e.makeRoom(c); err != nil {
		return nil, err
	}
	return c, e.store.create(recordOf(c), c.Raw)
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
	issued, err := e.issued()
	if err != nil {
		return nil, err
	}
	servers := slices.DeleteFunc(issued, func(c *x509.Certificate) bool { return !isServer(c) })
	slices.SortFunc(servers, byEnd)
	for ; len(servers) >= keptServers; servers = servers[1:] {
		if err := e.store.remove(recordOf(servers[0])); err != nil {
			return nil, err
		}
	}
	c, err := e.authority.issue(leaf{subject: serving(names.dns[0], names), key: key, ends: e.clock.now().Add(serverLife)})
	if err != nil {
		return nil, err
	}
	_ = e.store.create(recordOf(c), c.Raw)
	return c.Raw, nil
}

// makeRoom sees that c can go on record. A record goes for want of room alone: that a
// certificate has ended is what the clock says, which may be ahead.
func (e *engine) makeRoom(c *x509.Certificate) error {
	all, err := e.issued()
	if err != nil {
		return err
	}
	clients := slices.DeleteFunc(all, func(o *x509.Certificate) bool { return isServer(o) || signerOf(o) != signerOf(c) })
	room, worst := maxClients, e.leastWorth
	first := func([]*x509.Certificate, *x509.Certificate) int { return 0 }
	if signerOf(c) == kubernetesCA {
		room, worst = keptKubernetes, first
	} else {
		isOwners, err := e.ownersSeries()
		if err != nil {
			room += keptOwner // they count as others'
		}
		clients = slices.DeleteFunc(clients, func(o *x509.Certificate) bool { return isOwners(o) != isOwners(c) })
		if isOwners(c) {
			room, worst = keptOwner, first
		}
	}
	slices.SortFunc(clients, byEnd)
	for len(clients) >= room {
		i := worst(clients, c)
		if i < 0 {
			return status.Errorf(codes.ResourceExhausted, "%d clients have certificates in force: wait until some have ended, or ask for shorter ones", len(clients))
		}
		if err := e.store.remove(recordOf(clients[i])); err != nil {
			return err
		}
		clients = slices.Delete(clients, i, i+1)
	}
	return nil
}

// ownersSeries returns which certificates are renewals of the owner's first, which is not
// on record: it is the claim. Without a claim that can be read there are none.
func (e *engine) ownersSeries() (func(*x509.Certificate) bool, error) {
	owner, err := e.claimed()
	if err != nil || owner == nil {
		return func(*x509.Certificate) bool { return false }, err
	}
	series := seriesOf(owner)
	return func(c *x509.Certificate) bool { return seriesOf(c) == series }, nil
}

// leastWorth returns which of the clients, sorted by their ends, loses its record to next:
// the first that has ended, or else the first that was renewed since: what it descends from
// is on record with its renewal. -1 if there is none: no client disappears from the record
// while its certificate is in force. A renewal always finds one, which is its predecessor
// if no other; the owner's, whose predecessor may be the claim, are not among these clients.
func (e *engine) leastWorth(clients []*x509.Certificate, next *x509.Certificate) int {
	if !e.clock.now().Before(clients[0].NotAfter) {
		return 0
	}
	series := map[string]int{seriesOf(next): 1}
	for _, c := range clients {
		series[seriesOf(c)]++
	}
	return slices.IndexFunc(clients, func(c *x509.Certificate) bool { return series[seriesOf(c)] > 1 })
}

// seriesOf returns the serial with which c's series of renewals began.
func seriesOf(c *x509.Certificate) string {
	l := trust.Lineage(c)
	return l[len(l)-1]
}

func byEnd(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }

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

// A known certificate is one that trustd can tell of.
type known struct {
	*x509.Certificate
	ca       caName
	receiver string // the part that it was given to
}

// certificates returns the CAs, the owner's certificate, and of all that is on record
// or given to Kubernetes' parts what has not ended.
func (e *engine) certificates() ([]known, error) {
	out := []known{{e.authority.certificate, osCA, ""}}
	owner, err := e.claimed()
	if err != nil {
		return nil, err
	}
	if owner != nil {
		out = append(out, known{owner, osCA, ""})
	}
	of, err := e.kubernetesCertificates()
	if err != nil {
		return nil, err
	}
	out = append(out, of...)
	issued, err := e.issued()
	if err != nil {
		return nil, err
	}
	for _, c := range issued {
		out = append(out, known{c, signerOf(c), ""})
	}
	now := e.clock.now()
	return slices.DeleteFunc(out, func(c known) bool { return !now.Before(c.NotAfter) }), nil
}

// kubernetesCertificates returns nothing if the cluster's identity is damaged: the
// others must still be seen.
func (e *engine) kubernetesCertificates() ([]known, error) {
	i, err := openIdentity(e.readOnly, e.readOrCreate, e.random)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []known
	for _, n := range slices.Concat(kubernetesCAs, addedCAs) {
		out = append(out, known{i.authorities[n].certificate, n, ""})
	}
	for _, p := range parts(wish{}) {
		for _, one := range p.pairs {
			c, err := e.shared(path.Join(p.name, one.file))
			if err != nil {
				return nil, err
			}
			if c != nil {
				out = append(out, known{c, one.ca, p.name})
			}
		}
	}
	return out, nil
}

// signerOf tells a CA by its name.
func signerOf(c *x509.Certificate) caName {
	for n, title := range titles {
		if c.Issuer.CommonName == title {
			return n
		}
	}
	return ""
}

func isServer(c *x509.Certificate) bool {
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
}

func recordOf(c *x509.Certificate) string {
	return path.Join(issuedFolder, serialOf(c)+".der")
}

func serialOf(c *x509.Certificate) string { return trust.Serial(c) }

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
