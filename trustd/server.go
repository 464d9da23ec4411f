package main

import (
	"context"
	"crypto/x509"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// server answers for the service.
type server struct {
	engine *engine
	names  func(context.Context) subjectNames
	log    *slog.Logger
}

func (s *server) ListCertificates(context.Context, *trust.ListCertificatesRequest) (*trust.ListCertificatesResponse, error) {
	all, err := s.engine.certificates()
	if err != nil {
		return nil, s.internal(err)
	}
	out := &trust.ListCertificatesResponse{}
	for _, c := range all {
		out.Certificates = append(out.Certificates, describe(c))
	}
	return out, nil
}

func (s *server) Claim(_ context.Context, r *trust.ClaimRequest) (*trust.ClaimResponse, error) {
	certificate, confirm, err := s.engine.claim(r.Csr, r.Proof, time.Unix(r.TimeUnix, 0))
	if err != nil {
		return nil, s.internal(err)
	}
	s.log.Info("claimed")
	return &trust.ClaimResponse{Certificate: certificate, Authority: s.authority(), Confirm: confirm}, nil
}

func (s *server) IssueClient(_ context.Context, r *trust.IssueClientRequest) (*trust.IssueClientResponse, error) {
	certificate, err := s.engine.issueClient(r.Csr, role(r.Role), r.Name, r.TtlS)
	if err != nil {
		return nil, s.internal(err)
	}
	s.log.Info("issued client certificate", "name", r.Name, "role", r.Role)
	return &trust.IssueClientResponse{Certificate: certificate, Authority: s.authority()}, nil
}

func (s *server) IssueServer(ctx context.Context, r *trust.IssueServerRequest) (*trust.IssueServerResponse, error) {
	names := s.names(ctx)
	certificate, err := s.engine.issueServer(r.Csr, names)
	if err != nil {
		return nil, s.internal(err)
	}
	s.log.Info("issued server certificate", "names", names.dns, "addresses", names.addresses)
	return &trust.IssueServerResponse{Certificate: certificate, Authority: s.authority()}, nil
}

func (s *server) GetPairing(context.Context, *trust.GetPairingRequest) (*trust.Pairing, error) {
	code, fingerprint, err := s.engine.pairing()
	if err != nil {
		return nil, s.internal(err)
	}
	return &trust.Pairing{Code: code, Fingerprint: fingerprint}, nil
}

func (s *server) authority() []byte { return s.engine.authority.certificate.Raw }

// internal passes on what is meant for the caller; what went wrong with the disk
// goes to the log, since a stranger may be asking.
func (s *server) internal(err error) error {
	if _, meant := status.FromError(err); meant {
		return err
	}
	s.log.Error("answer a call", "err", err)
	return status.Error(codes.Internal, "trustd cannot read or write its state: see its log")
}

func describe(c *x509.Certificate) *trust.Certificate {
	out := &trust.Certificate{
		Kind:          "client",
		Subject:       c.Subject.CommonName,
		Serial:        serialOf(c),
		Fingerprint:   fingerprintOf(c),
		NotBeforeUnix: c.NotBefore.Unix(),
		NotAfterUnix:  c.NotAfter.Unix(),
		Names:         c.DNSNames,
	}
	for _, ip := range c.IPAddresses {
		out.Names = append(out.Names, ip.String())
	}
	switch {
	case c.IsCA:
		out.Kind = "ca"
	case isServer(c):
		out.Kind = "server"
	case len(c.Subject.Organization) == 1:
		out.Role = c.Subject.Organization[0]
	}
	return out
}

// askTimeout is how long networkd and PID 1 may take to say what the machine is
// called. Without an answer the certificate is for localhost alone, and routerd
// asks again when somebody comes by another address.
const askTimeout = 2 * time.Second

// asker learns the machine's names from those who know.
type asker struct {
	network network.Client
	machine machine.Client
	log     *slog.Logger
}

func (a asker) names(ctx context.Context) subjectNames {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var host string
	if v, err := a.machine.GetVersion(ctx, &machine.GetVersionRequest{}); err != nil {
		a.log.Warn("ask for the host name", "err", err)
	} else {
		host = v.Hostname
	}
	var cidrs []string
	if l, err := a.network.ListAddresses(ctx, &network.ListAddressesRequest{}); err != nil {
		a.log.Warn("ask for the addresses", "err", err)
	} else {
		for _, address := range l.Addresses {
			cidrs = append(cidrs, address.Address)
		}
	}
	return machineNames(host, cidrs)
}

func (s *server) PrepareKubernetes(context.Context, *trust.PrepareKubernetesRequest) (*trust.PrepareKubernetesResponse, error) {
	return nil, status.Error(codes.Unimplemented, "trustd does not know Kubernetes yet")
}

func (s *server) IssueKubernetesClient(context.Context, *trust.IssueKubernetesClientRequest) (*trust.IssueKubernetesClientResponse, error) {
	return nil, status.Error(codes.Unimplemented, "trustd does not know Kubernetes yet")
}
