package main

import (
	"bufio"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// TestStories runs testdata/*.txt. A line is "command -> what comes of it"; the
// commands are the methods of story.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) { tell(t, name) })
	}
}

func tell(t *testing.T, name string) {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &story{
		t: t, keys: map[string]crypto.Signer{}, seen: map[string]string{},
		disk:  &fakeStore{files: map[string][]byte{}, writesLeft: -1},
		share: &fakeShare{fakeStore: fakeStore{files: map[string][]byte{}, writesLeft: -1}},
		now:   time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		command, want, _ := strings.Cut(line, "->")
		got := s.do(strings.Fields(command))
		if want = strings.TrimSpace(want); got != want {
			t.Errorf("%s:%d: %s\n got %s\nwant %s", name, n, strings.TrimSpace(command), got, want)
		}
	}
}

// story is one machine's life.
type story struct {
	t       *testing.T
	renewed *x509.Certificate // the owner's last renewal
	disk    *fakeStore
	share   *fakeShare
	now     time.Time
	sync    bool          // a time server has confirmed now
	up      time.Duration // all that was waited
	e       *engine
	keys    map[string]crypto.Signer
	codes   []string // all that were shown, in order
	first   []byte   // the CA of the first boot
	seen    map[string]string
	owner   []byte // the certificate that a claim was last answered with
}

func (s *story) do(words []string) string {
	args := map[string]string{}
	var plain []string
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			args[k] = v
		} else {
			plain = append(plain, w)
		}
	}
	switch words[0] {
	case "boot":
		return s.boot()
	case "wait":
		d, err := time.ParseDuration(plain[0])
		s.must(err)
		s.now = s.now.Add(d)
		s.up += max(d, 0)
		return ""
	case "sync": // a time server answers: the clock is set to the day, and confirmed
		s.sync = true
		fallthrough
	case "clock":
		s.now = s.date(plain[0])
		return ""
	case "cut": // power fails after so many more writes
		n, err := strconv.Atoi(plain[0])
		s.must(err)
		s.disk.writesLeft = n
		return ""
	case "power": // is back
		s.disk.writesLeft = -1
		return ""
	case "told": // an earlier version has kept this time
		s.disk.files[reportedFile] = []byte(plain[0] + "T00:00:00Z")
		return ""
	case "lose":
		delete(s.disk.files, plain[0])
		return ""
	case "damage":
		s.disk.files[plain[0]] = []byte("zzz")
		return ""
	case "image": // without these parts
		s.share.absent = plain
		return ""
	case "reboot": // empties what is in memory
		clear(s.share.files)
		return s.boot()
	case "forget": // a file of a part, or of all
		for name := range s.share.files {
			if name == plain[0] || path.Base(name) == plain[0] {
				delete(s.share.files, name)
			}
		}
		return ""
	case "spoil":
		s.share.files[plain[0]] = []byte("zzz")
		return ""
	case "prepare":
		return s.prepare(args["node"], args["service"], plain, args["api"])
	case "remember": // as trustd does every hour
		s.must(s.e.remember())
		return ""
	case "look": // as trustd does every few seconds
		return s.look()
	case "show":
		return s.show(plain[0])
	case "same": // as before, and at first as nothing
		return s.same(plain[0])
	case "kubeconfig":
		c, _, err := s.e.issueKubernetesClient(ipc.Origin{}, s.csr(plain[0], args["csr"]), args["name"], 0)
		return s.result(rawOf(c), err)
	case "files":
		return strings.Join(s.disk.names(), " ")
	case "pairing":
		return s.pairing()
	case "claim":
		return s.claim(plain[0], args)
	case "issue":
		seconds, err := strconv.ParseInt(cmp.Or(args["ttl_s"], "0"), 10, 64)
		s.must(err)
		c, err := s.e.issueClient(ipc.Origin{}, s.csr(plain[0], args["csr"]), roleOf(args["role"]), args["name"], seconds)
		return s.result(rawOf(c), err)
	case "fill": // the record with other clients, all in force for a year
		key := newTestKey(s.t)
		for range maxClients {
			c, err := s.e.authority.issue(leaf{client("bob", "reader"), key.Public(), s.now.Add(maxLife), descent{lineage: []string{}}})
			s.must(err)
			s.disk.files[recordOf(c)] = c.Raw
		}
		return "full"
	case "renew": // what the owner has, which is the claim at first
		if s.renewed == nil {
			var err error
			s.renewed, err = s.e.claimed()
			s.must(err)
		}
		c, err := s.e.issueClient(originOf(s.renewed), s.csr(plain[0], ""), roleOf(s.renewed.Subject.Organization[0]), s.renewed.Subject.CommonName, 0)
		if err == nil {
			s.renewed = c
		}
		return s.result(rawOf(c), err)
	case "kept": // how many records there are of a client
		all, err := s.e.issued()
		s.must(err)
		return fmt.Sprint(len(slices.DeleteFunc(all, func(c *x509.Certificate) bool { return c.Subject.CommonName != plain[0] })))
	case "serve":
		der, err := s.e.issueServer(s.csr("routerd", args["csr"]), machineNames(args["host"], plain))
		return s.result(der, err)
	case "list":
		return s.list()
	case "settle": // as trustd does every few seconds
		dropped, err := s.e.settle()
		s.must(err)
		if dropped.IsZero() {
			return "nothing to drop"
		}
		return "drops " + dropped.Format("2006-01-02T15:04")
	}
	s.t.Fatalf("no such command: %s", words[0])
	return ""
}

// built is when the image of the stories was built.
var built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func rawOf(c *x509.Certificate) []byte {
	if c == nil {
		return nil
	}
	return c.Raw
}

func (s *story) boot() string {
	s.sync = false
	c := newClock(func() time.Time { return s.now }, func() time.Duration { return s.up }, func() bool { return s.sync }, built)
	e, err := openEngine(s.disk, s.share, c, rand.Reader)
	switch {
	case errors.Is(err, errDamaged):
		return "gives up: damaged"
	case err != nil:
		return err.Error()
	}
	s.e = e
	ca := e.authority.certificate.Raw
	switch {
	case s.first == nil:
		s.first = ca
		return "new identity"
	case slices.Equal(s.first, ca):
		return "same identity"
	}
	return "ANOTHER IDENTITY"
}

// pairing names codes by the order in which they were first shown.
func (s *story) pairing() string {
	code, _, err := s.e.pairing()
	s.must(err)
	if code == "" {
		return "claimed"
	}
	if !slices.Contains(s.codes, code) {
		s.codes = append(s.codes, code)
	}
	return fmt.Sprintf("code %d", slices.Index(s.codes, code)+1)
}

// claim makes a proof of the code it is told to, else of the latest shown.
func (s *story) claim(who string, args map[string]string) string {
	n := len(s.codes)
	if args["code"] != "" && args["code"] != "wrong" {
		n, _ = strconv.Atoi(args["code"])
	}
	code, err := trust.ParseCode(s.codes[n-1])
	s.must(err)
	if args["code"] == "wrong" {
		code.Secret++
	}
	var clock time.Time
	if args["clock"] != "" {
		clock = s.date(args["clock"])
	}
	csr := s.csr(who, args["csr"])
	times, _ := strconv.Atoi(cmp.Or(args["times"], "1"))
	var der, confirm []byte
	for range times {
		der, confirm, err = s.e.claim(csr, trust.Proof(code.Secret, s.e.authority.certificate.Raw, csr), clock)
	}
	if err == nil && !trust.Equal(confirm, trust.Confirm(code.Secret, der, s.e.authority.certificate.Raw)) {
		return "WRONG CONFIRMATION"
	}
	again := err == nil && slices.Equal(der, s.owner)
	if err == nil {
		s.owner = der
	}
	if again {
		return "the same certificate"
	}
	return s.result(der, err)
}

// csr makes a request of who's key, whose wishes must all be ignored.
func (s *story) csr(who, flaw string) []byte {
	if s.keys[who] == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		s.must(err)
		s.keys[who] = k
	}
	key := s.keys[who]
	switch flaw {
	case "garbage":
		return []byte("garbage")
	case "huge":
		return make([]byte, maxCSRBytes+1)
	case "rsa":
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		s.must(err)
		key = k
	case "p224":
		k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		s.must(err)
		key = k
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "root", Organization: []string{"admin"}},
		DNSNames:    []string{"bank.example"},
		IPAddresses: []net.IP{net.IPv4(8, 8, 8, 8)},
	}, key)
	s.must(err)
	if flaw == "forged" {
		der[len(der)-1] ^= 1
	}
	return der
}

// result says of a certificate what matters, after checking what always holds.
func (s *story) result(der []byte, err error) string {
	if err != nil {
		return status.Code(err).String()
	}
	c, err := x509.ParseCertificate(der)
	s.must(err)
	of := known{Certificate: c, ca: signerOf(c)}
	ca := s.e.authority
	if of.ca != osCA {
		i, err := openIdentity(s.e.readOnly, s.e.readOnly, rand.Reader)
		s.must(err)
		ca = i.authorities[of.ca]
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	usage := x509.ExtKeyUsageClientAuth
	if isServer(c) {
		usage = x509.ExtKeyUsageServerAuth
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: s.now, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		return err.Error()
	}
	if len(c.ExtKeyUsage) != 1 || c.IsCA || !c.BasicConstraintsValid || c.SerialNumber.BitLen() < 64 || c.NotBefore != dawn {
		return "BAD CERTIFICATE"
	}
	d := describe(of)
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s %s until %s", strings.TrimSuffix(d.Ca, "os"), d.Kind, d.Subject, words.Of(d.Role)+d.Group, strings.Join(d.Names, " "), c.NotAfter.Format("2006-01-02T15:04"))), " ")
}

func (s *story) list() string {
	all, err := s.e.certificates()
	s.must(err)
	var out []string
	for _, c := range all {
		d := describe(c)
		if d.Receiver != "" && d.Receiver != "etcdd" {
			continue // show knows them; one stands for all
		}
		out = append(out, strings.TrimSuffix(d.Kind+":"+strings.ReplaceAll(d.Subject, " ", "_")+":"+words.Of(d.Role)+d.Group, ":"))
	}
	slices.Sort(out[1:])
	return strings.Join(out, " ")
}

func (s *story) prepare(node, service string, addresses []string, api string) string {
	w, err := newWish(node, addresses, cmp.Or(service, "10.96.0.0/16"), strings.FieldsFunc(api, func(r rune) bool { return r == ',' }))
	if err != nil {
		return status.Code(err).String()
	}
	r, err := s.e.prepare(w)
	return s.round(r, err)
}

func (s *story) look() string {
	if !s.e.due() {
		return "not due"
	}
	r, err := s.e.renew()
	return s.round(r, err)
}

// round says what was written: names, if there are few.
func (s *story) round(r *round, err error) string {
	switch {
	case errors.Is(err, errDamaged):
		return "damaged"
	case err != nil:
		return err.Error()
	}
	var said []string
	switch kinds := s.kinds(r.written); {
	case len(r.written) == 0:
		said = append(said, "nothing to do")
	case len(r.written) <= 3:
		said = append(said, r.written...)
	default:
		said = append(said, fmt.Sprintf("%d keys, %d certificates, %d other files", kinds[".key"], kinds[".crt"], kinds[""]))
	}
	if len(r.absent) > 0 {
		said = append(said, "without "+strings.Join(r.absent, " "))
	}
	return strings.Join(said, " ")
}

func (s *story) kinds(files []string) map[string]int {
	kinds := map[string]int{}
	for _, f := range files {
		if strings.HasSuffix(f, "-ca.crt") || strings.HasSuffix(f, "sa.key") {
			kinds[""]++
		} else if e := path.Ext(f); e == ".key" || e == ".crt" {
			kinds[e]++
		} else {
			kinds[""]++
		}
	}
	return kinds
}

// show tells of a part's certificate after checking that the key beside it is its own.
func (s *story) show(name string) string {
	c, err := s.e.shared(name)
	s.must(err)
	if c == nil {
		return "none"
	}
	key, err := parseKey(name, s.share.files[name+".key"])
	s.must(err)
	if !key.PublicKey.Equal(c.PublicKey) {
		return "THE KEY IS ANOTHER'S"
	}
	return s.result(c.Raw, nil)
}

// same says whether a file, on disk or given, has changed since it was last asked.
func (s *story) same(name string) string {
	content := cmp.Or(string(s.disk.files[name]), string(s.share.files[name]))
	before := s.seen[name]
	s.seen[name] = content
	switch {
	case before == "":
		return "first"
	case before == content:
		return "yes"
	}
	return "no"
}

// date reads a day, or a day and a time.
func (s *story) date(text string) time.Time {
	s.t.Helper()
	layout := time.DateOnly
	if strings.Contains(text, "T") {
		layout = "2006-01-02T15:04:05"
	}
	t, err := time.Parse(layout, text)
	s.must(err)
	return t
}

func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// There is room on record for so many clients. When it is full, those whose time is over
// go, the oldest first; while none is over, nobody else gets a certificate.
func TestRecordIsFull(t *testing.T) {
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	disk := &fakeStore{files: map[string][]byte{}, writesLeft: -1}
	e := newTestEngine(t, disk, &now)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for n := range maxClients {
		c, err := e.authority.issue(leaf{subject: client("bob", "reader"), key: key.Public(), ends: now.Add(time.Duration(n+1) * time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		disk.files[recordOf(c)] = c.Raw
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.issueClient(ipc.Origin{}, csr, auth.Role_ROLE_READER, "eve", 0); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("with a full record: %v", err)
	}
	now = now.Add(10 * time.Minute)
	if _, err := e.issueClient(ipc.Origin{}, csr, auth.Role_ROLE_READER, "eve", 0); err != nil {
		t.Errorf("with ten over: %v", err)
	}
	all, err := e.issued()
	if err != nil || len(all) != maxClients {
		t.Errorf("%d on record: %v", len(all), err)
	}
	slices.SortFunc(all, byEnd)
	if got := all[0].NotAfter.Sub(now); got != -8*time.Minute {
		t.Errorf("the oldest on record ended %v ago, want the second", -got)
	}
}

func newTestEngine(t *testing.T, disk *fakeStore, now *time.Time) *engine {
	t.Helper()
	c := newClock(func() time.Time { return *now }, func() time.Duration { return 0 }, func() bool { return false }, built)
	e, err := openEngine(disk, &fakeShare{fakeStore: fakeStore{files: map[string][]byte{}, writesLeft: -1}}, c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fakeStore is a disk whose power can fail.
type fakeStore struct {
	files      map[string][]byte
	writesLeft int // -1 = for ever
}

var errPower = errors.New("power failed")

func (f *fakeStore) read(name string) ([]byte, error) {
	b, ok := f.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return b, nil
}

func (f *fakeStore) create(name string, content []byte) error {
	if _, there := f.files[name]; there {
		return &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	return f.replace(name, content)
}

func (f *fakeStore) replace(name string, content []byte) error {
	if f.writesLeft == 0 {
		return errPower
	}
	if f.writesLeft > 0 {
		f.writesLeft--
	}
	f.files[name] = content
	return nil
}

func (f *fakeStore) list(folder string) ([]string, error) {
	return slices.DeleteFunc(f.names(), func(n string) bool { return !strings.HasPrefix(n, folder+"/") }), nil
}

func (f *fakeStore) remove(name string) error {
	delete(f.files, name)
	return nil
}

// fakeShare has a folder for every part but the absent.
type fakeShare struct {
	fakeStore
	absent []string
}

func (f *fakeShare) has(part string) (bool, error) { return !slices.Contains(f.absent, part), nil }

func (f *fakeStore) names() []string {
	var out []string
	for n := range f.files {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// roleOf returns the role whose word this is; a number that no role has for another word.
func roleOf(word string) auth.Role {
	if r, known := words.Parse[auth.Role](word); known || word == "" {
		return r
	}
	return 99
}
