package vm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// Identity is what a client shows to a machine, and the machine it trusts.
type Identity struct {
	Authority   *x509.Certificate // the machine's OS CA
	Certificate *tls.Certificate  // nil: none is shown
}

// savedIdentity is an Identity in a file.
type savedIdentity struct {
	Authority   []byte // DER
	Certificate []byte // DER, the client's
	Key         []byte // PKCS #8
}

// save fails unless the client has a certificate.
func (id Identity) save() (savedIdentity, error) {
	if id.Certificate == nil {
		return savedIdentity{}, errors.New("the client has no certificate")
	}
	key, err := x509.MarshalPKCS8PrivateKey(id.Certificate.PrivateKey)
	return savedIdentity{id.Authority.Raw, id.Certificate.Certificate[0], key}, err
}

func (s savedIdentity) identity() (Identity, error) {
	authority, err := x509.ParseCertificate(s.Authority)
	if err != nil {
		return Identity{}, err
	}
	key, err := x509.ParsePKCS8PrivateKey(s.Key)
	if err != nil {
		return Identity{}, err
	}
	return Identity{authority, &tls.Certificate{Certificate: [][]byte{s.Certificate}, PrivateKey: key}}, nil
}

// WriteFiles writes the identity into dir as dactyl context add --from reads it: ca.crt,
// tls.crt and tls.key.
func (id Identity) WriteFiles(dir string) error {
	s, err := id.save()
	if err != nil {
		return err
	}
	for name, b := range map[string]*pem.Block{
		"ca.crt":  {Type: "CERTIFICATE", Bytes: s.Authority},
		"tls.crt": {Type: "CERTIFICATE", Bytes: s.Certificate},
		"tls.key": {Type: "PRIVATE KEY", Bytes: s.Key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Conn is an ipc.Conn over the gateway.
type Conn struct{ CC *grpc.ClientConn }

// Dial prepares a connection as id to the machine at address; it is made with
// the first call, and anew whenever it breaks.
func Dial(address string, id Identity) (*Conn, error) {
	pool := x509.NewCertPool()
	pool.AddCert(id.Authority)
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
	if id.Certificate != nil {
		config.Certificates = []tls.Certificate{*id.Certificate}
	}
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return nil, err
	}
	return &Conn{cc}, nil
}

// Close closes the connection.
func (c *Conn) Close() { c.CC.Close() }

// Invoke implements ipc.Conn. It waits while the machine cannot be reached.
func (c *Conn) Invoke(ctx context.Context, m *ipc.Method, request, response proto.Message) error {
	return c.CC.Invoke(ctx, m.Path(), request, response, grpc.WaitForReady(true))
}

// Open implements ipc.Conn.
func (c *Conn) Open(ctx context.Context, m *ipc.Method, request proto.Message) (ipc.Stream, error) {
	s, err := c.CC.NewStream(ctx, &grpc.StreamDesc{ServerStreams: m.ServerStream, ClientStreams: m.ClientStream}, m.Path(), grpc.WaitForReady(true))
	if err != nil || request == nil {
		return s, err
	}
	if err := s.SendMsg(request); err != nil {
		return nil, err
	}
	return s, s.CloseSend()
}

// Claim takes the machine at address with its pairing code, as the dactyl
// command does, and returns the first admin.
func Claim(ctx context.Context, address, code string) (Identity, error) {
	parsed, err := trust.ParseCode(code)
	if err != nil {
		return Identity{}, err
	}
	authority, err := Authority(ctx, address)
	if err != nil {
		return Identity{}, err
	}
	if !parsed.Matches(authority.Raw) {
		return Identity{}, errors.New("the machine's CA is not the one that its code names")
	}
	id := Identity{Authority: authority}
	c, err := Dial(address, id)
	if err != nil {
		return Identity{}, err
	}
	defer c.Close()
	key, csr, err := NewCSR()
	if err != nil {
		return Identity{}, err
	}
	r, err := trust.NewClient(c).Claim(ctx, &trust.ClaimRequest{Csr: csr, Proof: trust.Proof(parsed.Secret, authority.Raw, csr)})
	if err != nil {
		return Identity{}, err
	}
	if !trust.Equal(r.Confirm, trust.Confirm(parsed.Secret, r.Certificate, r.Authority)) {
		return Identity{}, errors.New("the answer does not come from the machine that shows the code")
	}
	id.Certificate = &tls.Certificate{Certificate: [][]byte{r.Certificate}, PrivateKey: key}
	return id, nil
}

// Authority reads the CA that a machine shows in its TLS handshake.
func Authority(ctx context.Context, address string) (*x509.Certificate, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"h2"}}}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	chain := c.(*tls.Conn).ConnectionState().PeerCertificates
	if len(chain) < 2 {
		return nil, fmt.Errorf("the machine shows %d certificates: want its own and its CA's", len(chain))
	}
	return chain[len(chain)-1], nil
}

// Issue has an admin's client issue a certificate with another role.
func Issue(ctx context.Context, admin *Conn, authority *x509.Certificate, role auth.Role) (Identity, error) {
	key, csr, err := NewCSR()
	if err != nil {
		return Identity{}, err
	}
	r, err := trust.NewClient(admin).IssueClient(ctx, &trust.IssueClientRequest{Csr: csr, Role: role, Name: "test-" + words.Of(role)})
	if err != nil {
		return Identity{}, err
	}
	return Identity{authority, &tls.Certificate{Certificate: [][]byte{r.Certificate}, PrivateKey: key}}, nil
}

// NewCSR makes a key and a certificate request for it.
func NewCSR() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return key, csr, err
}
