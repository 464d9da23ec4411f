package main

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	timeapi "github.com/dactyl-os/dactyl/ipc/time"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
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
	if t := s.engine.clock.ahead(); !t.IsZero() {
		out.ReportedTimeUnix = t.Unix()
	}
	for _, c := range all {
		out.Certificates = append(out.Certificates, describe(c))
	}
	return out, nil
}

func (s *server) Claim(_ context.Context, r *trust.ClaimRequest) (*trust.ClaimResponse, error) {
	certificate, confirm, err := s.engine.claim(r.Csr, r.Proof, time.Unix(r.TimeUnix, 0))
	if status.Code(err) == codes.PermissionDenied { // the rate of these is limited
		s.log.Warn("a client sent a wrong proof of the pairing code")
	}
	if err != nil {
		return nil, s.internal(err)
	}
	if owner, err := x509.ParseCertificate(certificate); err == nil {
		s.log.Info("claimed", "serial", serialOf(owner), "until", stamp(owner.NotAfter))
	}
	if t := s.engine.clock.ahead(); !t.IsZero() {
		s.log.Warn("the machine's clock is behind the owner's: certificates are counted from the owner's until a time server answers",
			"machine", stamp(s.engine.clock.machine()), "owner", stamp(t))
	}
	return &trust.ClaimResponse{Certificate: certificate, Authority: s.authority(), Confirm: confirm}, nil
}

func (s *server) IssueClient(ctx context.Context, r *trust.IssueClientRequest) (*trust.IssueClientResponse, error) {
	by := ipc.OriginOf(ctx)
	certificate, err := s.engine.issueClient(by, r.Csr, r.Role, r.Name, r.TtlS)
	if err != nil {
		return nil, s.internal(err)
	}
	s.issued("issued client certificate", certificate, by, "role", words.Of(r.Role))
	return &trust.IssueClientResponse{Certificate: certificate.Raw, Authority: s.authority()}, nil
}

func (s *server) IssueServer(ctx context.Context, r *trust.IssueServerRequest) (*trust.IssueServerResponse, error) {
	names := s.names(ctx)
	certificate, err := s.engine.issueServer(r.Csr, names)
	if err != nil {
		return nil, s.internal(err)
	}
	if c, err := x509.ParseCertificate(certificate); err == nil {
		s.log.Info("issued server certificate", "serial", serialOf(c), "names", names.dns, "addresses", names.addresses)
	}
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

func (s *server) IssueKubernetesClient(ctx context.Context, r *trust.IssueKubernetesClientRequest) (*trust.IssueKubernetesClientResponse, error) {
	by := ipc.OriginOf(ctx)
	certificate, ca, err := s.engine.issueKubernetesClient(by, r.Csr, r.Name, r.TtlS)
	if err != nil {
		return nil, s.internal(err)
	}
	s.issued("issued Kubernetes client certificate", certificate, by)
	return &trust.IssueKubernetesClientResponse{Certificate: certificate.Raw, Authority: ca}, nil
}

// issued writes down who has got a certificate, and by whose certificate: the name of a
// client does not tell two certificates apart.
func (s *server) issued(what string, c *x509.Certificate, by ipc.Origin, more ...any) {
	s.log.Info(what, append([]any{"name", c.Subject.CommonName, "serial", serialOf(c), "until", stamp(c.NotAfter),
		"lineage", strings.Join(trust.Lineage(c), ","), "by", by.Name, "by_serial", by.Serial}, more...)...)
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
		return status.Errorf(codes.DataLoss, "%v: it is not recreated, since that would be another cluster behind its owner's back: wipe STATE to begin again", err)
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
	case c.ca == osCA:
		out.Role = auth.RoleOf(c.Certificate)
	case len(c.Subject.Organization) == 1:
		out.Group = c.Subject.Organization[0]
	}
	if out.Kind == "client" && c.receiver == "" {
		out.Lineage = trust.Lineage(c.Certificate)
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

// keep1 drops a reported time that is over, renews what is due, and returns how long to wait.
func (s *server) keep1() time.Duration {
	if dropped, err := s.engine.settle(); err != nil {
		s.log.Error("drop the time that the owner reported", "err", err)
	} else if !dropped.IsZero() {
		s.log.Info("a time server has confirmed the machine's clock: the time that the owner reported no longer counts",
			"machine", stamp(s.engine.clock.machine()), "reported", stamp(dropped))
	}
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

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// confirmedBy asks timed whether a time server has confirmed the clock. No answer is no:
// timed may not be running yet.
func confirmedBy(c timeapi.Client) func() bool {
	return func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		answer, err := c.GetTime(ctx, &timeapi.GetTimeRequest{})
		return err == nil && answer.Synchronized
	}
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
	return machineNames(host, a.addresses(ctx))
}

// addresses returns what the machine is reached by: what networkd has given to a link, and
// what the kernel has given to a physical one. Pods' links have link-local addresses too,
// and with many pods these would fill the certificate.
func (a asker) addresses(ctx context.Context) (cidrs []string) {
	all, err := a.network.ListAddresses(ctx, &network.ListAddressesRequest{})
	if err != nil {
		a.log.Warn("ask for the addresses", "err", err)
		return nil
	}
	links, err := a.network.ListLinks(ctx, &network.ListLinksRequest{})
	if err != nil {
		a.log.Warn("ask for the links: the certificate is without the kernel's own addresses", "err", err)
	}
	physical := map[string]bool{}
	for _, l := range links.GetLinks() {
		physical[l.Name] = l.Kind == "physical"
	}
	var fromKernel []string // after those that people use
	for _, address := range all.Addresses {
		switch {
		case address.Origin == "dhcp" || address.Origin == "static":
			cidrs = append(cidrs, address.Address)
		case physical[address.Link]:
			fromKernel = append(fromKernel, address.Address)
		}
	}
	return append(cidrs, fromKernel...)
}
