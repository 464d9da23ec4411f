package main

import (
	"context"
	"errors"
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

func (s *server) PrepareKubernetes(_ context.Context, r *trust.PrepareKubernetesRequest) (*trust.PrepareKubernetesResponse, error) {
	w, err := newWish(r.Node, r.Addresses, r.ServiceNetwork, r.ApiNames)
	if err != nil {
		return nil, err
	}
	done, err := s.engine.prepare(w)
	if err != nil {
		return nil, s.internal(err)
	}
	if len(done.absent) > 0 {
		s.log.Warn("this image has no folder for these, so they get no keys", "parts", done.absent)
	}
	if len(done.written) > 0 {
		s.log.Info("gave keys and certificates", "node", w.node, "addresses", w.addresses, "files", len(done.written))
	}
	return &trust.PrepareKubernetesResponse{Written: done.written, Absent: done.absent}, nil
}

func (s *server) IssueKubernetesClient(_ context.Context, r *trust.IssueKubernetesClientRequest) (*trust.IssueKubernetesClientResponse, error) {
	certificate, ca, err := s.engine.issueKubernetesClient(r.Csr, r.Name, r.TtlS)
	if err != nil {
		return nil, s.internal(err)
	}
	s.log.Info("issued Kubernetes client certificate", "name", r.Name)
	return &trust.IssueKubernetesClientResponse{Certificate: certificate, Authority: ca}, nil
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
	if errors.Is(err, errDamaged) {
		return status.Errorf(codes.DataLoss, "%v: it is not made anew, since that would be another cluster behind its owner's back: wipe STATE to begin again", err)
	}
	return status.Error(codes.Internal, "trustd cannot read or write its state: see its log")
}

func describe(c known) *trust.Certificate {
	out := &trust.Certificate{
		Kind:          "client",
		Subject:       c.Subject.CommonName,
		Serial:        serialOf(c.Certificate),
		Fingerprint:   fingerprintOf(c.Certificate),
		NotBeforeUnix: c.NotBefore.Unix(),
		NotAfterUnix:  c.NotAfter.Unix(),
		Names:         c.DNSNames,
		Ca:            string(c.ca),
		Receiver:      c.receiver,
	}
	for _, ip := range c.IPAddresses {
		out.Names = append(out.Names, ip.String())
	}
	switch {
	case c.IsCA:
		out.Kind = "ca"
	case isServer(c.Certificate):
		out.Kind = "server"
	case len(c.Subject.Organization) == 1:
		out.Role = c.Subject.Organization[0]
	}
	return out
}

const (
	// lookAgain is how often the clock is read: it may be set at any time, and parts
	// whose certificates have ended by it are cut off until they get others.
	lookAgain = 5 * time.Second
	// retryAfter is how long to wait where a renewal failed, which the disk decides.
	retryAfter = time.Minute
	// noteAfter is how much time a restart may lose on a machine whose clock is behind.
	noteAfter = time.Hour
)

// keep renews what Kubernetes' parts have been given, until ctx ends.
func (s *server) keep(ctx context.Context) error {
	noted := time.Now()
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = s.keep1()
		if time.Since(noted) > noteAfter {
			noted = time.Now()
			if err := s.engine.remember(); err != nil {
				s.log.Warn("note the time", "err", err)
			}
		}
	}
}

// keep1 renews what is due and returns how long to wait.
func (s *server) keep1() time.Duration {
	if !s.engine.due() {
		return lookAgain
	}
	done, err := s.engine.renew()
	if err != nil {
		s.log.Error("renew the certificates of Kubernetes' parts", "err", err)
		return retryAfter
	}
	if len(done.written) > 0 {
		s.log.Info("renewed certificates", "files", done.written)
	}
	return lookAgain
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
