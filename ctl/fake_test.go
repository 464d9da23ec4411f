package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// fake is a machine: an OS CA, the services with fixed answers, and a gateway
// from gRPC to ttrpc.
type fake struct {
	t         *testing.T
	ca        *x509.Certificate
	caKey     *ecdsa.PrivateKey
	names     []string // of its server certificate
	loseClaim bool
	// afterClaim is called once the machine is claimed; its error is the first answer.
	afterClaim func() error

	noCluster   bool
	readyAt     int  // the node is Ready when it is asked so often; 0: never
	badSnapshot bool // its digest is another's
	cutSnapshot bool // its last part is missing

	stop   func() // ends the API once its calls are answered; set by serve
	peer   ipc.Conn
	routes map[string]route

	mu      sync.Mutex // guards what follows
	boot    int
	claimed []byte // CSR's key that has claimed
	admin   []byte // its certificate
	issued  int    // Kubernetes certificates
	asked   int    // how Kubernetes is
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, names: []string{"127.0.0.1", "localhost"}, boot: 1, routes: routes()}
	f.caKey = newTestKey(t)
	f.ca = f.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Dactyl OS CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, 3650*24*time.Hour, &f.caKey.PublicKey)
	methods := map[string][]string{}
	for _, r := range f.routes {
		methods[r.method.Service] = append(methods[r.method.Service], r.method.Name)
	}
	f.peer = ipctest.Pair(t, methods, f.register)
	return f
}

func newTestKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// dawn is when all of a machine's certificates begin.
var dawn = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// sign makes a certificate of the template, valid until so long from now.
func (f *fake) sign(template *x509.Certificate, until time.Duration, public any) *x509.Certificate {
	f.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		f.t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = dawn, time.Now().Add(until)
	parent := f.ca
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, f.caKey)
	if err != nil {
		f.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return cert
}

func (f *fake) client(name, role string, until time.Duration, public any) *x509.Certificate {
	return f.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{role}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, until, public)
}

// context is what this computer has of a machine; its certificate came at from.
func (f *fake) context(name, address, role string, from, until time.Duration) machine {
	key, text, err := newKey()
	if err != nil {
		f.t.Fatal(err)
	}
	cert := f.client(name, role, until, &key.PublicKey)
	return machine{Name: name, Address: address, Life: until - from, Authority: toPEM(pemCertificate, f.ca.Raw), Certificate: toPEM(pemCertificate, cert.Raw), Key: text}
}

// claimedBy returns the key that has claimed the machine, nil while there is none.
func (f *fake) claimedBy() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.claimed
}

// chain is the server certificate with the CA behind it.
func (f *fake) chain() tls.Certificate {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "node-1"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, name := range f.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key := newTestKey(f.t)
	leaf := f.sign(template, 24*time.Hour, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, f.ca.Raw}, PrivateKey: key}
}

func (f *fake) code() trust.Code {
	return trust.Code{Secret: trust.NewSecret(sha256First(f.ca.Raw)), Fingerprint: trust.FingerprintOf(f.ca.Raw)}
}

// sha256First makes a secret of anything, for a code that a test can know.
func sha256First(b []byte) (out [8]byte) {
	sum := sha256.Sum256(append([]byte("secret"), b...))
	copy(out[:], sum[:])
	return out
}

// serve opens the API and returns its address.
func (f *fake) serve(chain tls.Certificate) string { return f.serveAt(reserve(f.t), chain) }

func (f *fake) serveAt(address string, chain tls.Certificate) string {
	roots := x509.NewCertPool()
	roots.AddCert(f.ca)
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{chain},
			ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: roots,
		})),
		grpc.UnknownServiceHandler(f.forward))
	l, err := net.Listen("tcp", address)
	if err != nil {
		f.t.Fatal(err)
	}
	go s.Serve(l)
	f.stop = s.GracefulStop
	f.t.Cleanup(s.Stop)
	return l.Addr().String()
}

// reserve returns an address of loopback that is this test's alone until it
// ends, also while nobody listens there. A port that is merely closed goes to
// the next machine of a test beside this one, which then answers for a machine
// that is switched off.
func reserve(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	// net.Listen sets it too, and both must: then one who asks for this port may
	// listen there, and one who asks for any port does not get it.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}

// route is one external method.
type route struct {
	method ipc.Method
	role   auth.Role
}

// routes reads the services' own descriptors, as the image's build does.
func routes() map[string]route {
	found := map[string]route{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			if !strings.HasPrefix(string(service.FullName()), "dactyl.") {
				continue
			}
			for j := range service.Methods().Len() {
				d := service.Methods().Get(j)
				options := d.Options().(*descriptorpb.MethodOptions)
				r := route{role: proto.GetExtension(options, auth.E_Role).(auth.Role)}
				r.method = ipc.Method{
					Service: string(service.FullName()), Name: string(d.Name()),
					ClientStream: d.IsStreamingClient(), ServerStream: d.IsStreamingServer(),
				}
				found[r.method.Path()] = r
			}
		}
		return true
	})
	return found
}

// forward carries one call to the services.
func (f *fake) forward(_ any, s grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(s)
	r, known := f.routes[path]
	if !known || r.role == auth.Role_ROLE_UNSPECIFIED {
		return status.Errorf(codes.Unimplemented, "this machine has no %s", path)
	}
	if err := admit(s.Context(), r.role); err != nil {
		return err
	}
	switch {
	case r.method.ClientStream:
		return f.upload(s, &r.method)
	case r.method.ServerStream:
		return f.download(s, &r.method)
	}
	request, response := ipc.Raw(nil), ipc.Raw(nil)
	if err := s.RecvMsg(request); err != nil {
		return err
	}
	if err := f.peer.Invoke(s.Context(), &r.method, request, response); err != nil {
		return err
	}
	return s.SendMsg(response)
}

func admit(ctx context.Context, need auth.Role) error {
	has := auth.Role_ROLE_ANYONE
	p, _ := peer.FromContext(ctx)
	if certs := p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates; len(certs) > 0 {
		has = auth.RoleOf(certs[0])
	} else if need != auth.Role_ROLE_ANYONE {
		return status.Error(codes.Unauthenticated, "a client certificate is needed")
	}
	if !has.Includes(need) {
		return status.Errorf(codes.PermissionDenied, "role %s is needed, the certificate has %s", words.Of(need), words.Of(has))
	}
	return nil
}

func (f *fake) upload(s grpc.ServerStream, m *ipc.Method) error {
	up, err := f.peer.Open(s.Context(), m, nil)
	if err != nil {
		return err
	}
	for {
		piece := ipc.Raw(nil)
		if s.RecvMsg(piece) != nil || up.SendMsg(piece) != nil {
			break // a service that takes no more says why in its answer
		}
	}
	up.CloseSend() // a service that has answered already does not hear it
	answer := ipc.Raw(nil)
	if err := up.RecvMsg(answer); err != nil {
		return err
	}
	return s.SendMsg(answer)
}

func (f *fake) download(s grpc.ServerStream, m *ipc.Method) error {
	request := ipc.Raw(nil)
	if err := s.RecvMsg(request); err != nil {
		return err
	}
	down, err := f.peer.Open(s.Context(), m, request)
	if err != nil {
		return err
	}
	for {
		piece := ipc.Raw(nil)
		if err := down.RecvMsg(piece); err != nil {
			return endOf(err)
		}
		if err := s.SendMsg(piece); err != nil {
			return err
		}
	}
}
