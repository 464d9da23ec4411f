package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/etcd"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/log"
	machineapi "github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/pods"
	"github.com/dactyl-os/dactyl/ipc/storage"
	systime "github.com/dactyl-os/dactyl/ipc/time"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// endOf is the end of a stream as a gRPC handler returns it.
func endOf(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// epoch is when everything happens that the fake machine tells of.
const epoch = 1767225600 // 2026-01-01

func (f *fake) register(r ipc.Registrar) {
	machineapi.Register(r, fakeMachine{f})
	log.Register(r, fakeLog{f})
	network.Register(r, fakeNetwork{})
	storage.Register(r, fakeStorage{})
	systime.Register(r, fakeTime{})
	config.Register(r, fakeConfig{})
	kube.Register(r, fakeKube{f})
	pods.Register(r, &fakePods{})
	etcd.Register(r, fakeEtcd{f})
	trust.Register(r, fakeTrust{f})
	dev.Register(r, fakeDev{f})
}

type fakeMachine struct{ *fake }

func (f fakeMachine) GetVersion(context.Context, *machineapi.GetVersionRequest) (*machineapi.Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &machineapi.Version{
		Version: "0.1.0", Kernel: "6.12.40", Mode: "dev", BootId: fmt.Sprint("boot-", f.boot), UptimeMs: 93784000,
		Hostname: "node-1", RootHash: "5f2c",
	}, nil
}

func (fakeMachine) SetAside(context.Context, *machineapi.SetAsideRequest) (*machineapi.SetAsideResponse, error) {
	return nil, errors.New("no client outside may call this")
}

func (fakeMachine) ListDaemons(context.Context, *machineapi.ListDaemonsRequest) (*machineapi.ListDaemonsResponse, error) {
	return &machineapi.ListDaemonsResponse{Daemons: []*machineapi.Daemon{
		{Name: "logd", State: machineapi.DaemonState_DAEMON_STATE_UP, Tier: 1, Pid: 21, Uid: 101, UptimeMs: 93784000, MemoryBytes: 4404019, ResidentBytes: 6291456,
			Capabilities: []string{"SYSLOG"}, Bounding: []string{"SYSLOG"},
			Namespaces: map[string]bool{"mnt": true, "net": true, "pid": true, "user": false}, Seccomp: "filter", NoNewPrivs: true, Landlock: 6},
		{Name: "networkd", State: machineapi.DaemonState_DAEMON_STATE_UP, Tier: 4, Pid: 24, Uid: 104, UptimeMs: 750, Restarts: 2, MemoryBytes: 5242880,
			Capabilities: []string{"NET_ADMIN", "NET_RAW"}, Bounding: []string{"NET_ADMIN", "NET_RAW"},
			Namespaces: map[string]bool{"mnt": true, "net": false}, Seccomp: "filter", NoNewPrivs: true, Landlock: 6, Replaced: true},
		{Name: "timed", State: machineapi.DaemonState_DAEMON_STATE_BACKOFF, Reason: "exit 111\x1b[2J", Tier: 5, Uid: 105, Restarts: 7, Seccomp: "off"},
		{Name: "etcdd", State: machineapi.DaemonState_DAEMON_STATE_IDLE, Tier: 5, Uid: 110, OnRequest: true},
		{Name: "kubelet", State: machineapi.DaemonState_DAEMON_STATE_UP, SetAside: []string{"/var/lib/kubelet"}, Tier: 8, Pid: 90, UptimeMs: 61000, MemoryBytes: 48 << 20, OnRequest: true, Domain: "pods", Seccomp: "off",
			Capabilities: []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "MKNOD", "SYS_ADMIN"}, Namespaces: map[string]bool{"mnt": true, "pid": true, "net": false}},
	}}, nil
}

func (fakeMachine) GetGraph(context.Context, *machineapi.GetGraphRequest) (*machineapi.Graph, error) {
	return &machineapi.Graph{Edges: []*machineapi.Edge{
		{Caller: "networkd", Callee: "init", Service: "dactyl.machine.v1.Machine", Methods: []string{"SetHostname"}},
		{Caller: "trustd", Callee: "networkd", Service: "dactyl.network.v1.Network", Methods: []string{"ListAddresses"}},
	}}, nil
}

func (fakeMachine) RestartDaemon(ctx context.Context, r *machineapi.RestartDaemonRequest) (*machineapi.RestartDaemonResponse, error) {
	switch r.Name {
	case "networkd":
		return &machineapi.RestartDaemonResponse{Pid: 57}, nil
	case "crashing":
		return nil, status.Error(codes.Aborted, "crashing ended with exit 1 before it was ready; the old process runs on")
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, status.Errorf(codes.NotFound, "no daemon %q", r.Name)
}

func (f fakeMachine) Reboot(context.Context, *machineapi.RebootRequest) (*machineapi.RebootResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.boot++
	return &machineapi.RebootResponse{}, nil
}

func (f fakeMachine) Shutdown(context.Context, *machineapi.ShutdownRequest) (*machineapi.ShutdownResponse, error) {
	go f.stop() // waits for this answer to leave
	return &machineapi.ShutdownResponse{}, nil
}

func (fakeMachine) SetHostname(context.Context, *machineapi.SetHostnameRequest) (*machineapi.SetHostnameResponse, error) {
	return nil, errors.New("no client outside may call this")
}

func (fakeMachine) StartProgram(context.Context, *machineapi.StartProgramRequest) (*machineapi.StartProgramResponse, error) {
	return nil, errors.New("no client outside may call this")
}

func (fakeMachine) StopProgram(context.Context, *machineapi.StopProgramRequest) (*machineapi.StopProgramResponse, error) {
	return nil, errors.New("no client outside may call this")
}

// fakeLog has three daemons: networkd with three lines; moving, whose logd is
// replaced after two lines; booting, whose machine boots anew after two lines.
type fakeLog struct{ *fake }

var logLines = []*log.Line{
	{Cursor: 1, TimeUnixNs: epoch*1e9 + 5e6, Text: "eth0: carrier"},
	{Cursor: 4, TimeUnixNs: epoch*1e9 + 1e9, Text: "eth0:\t192.0.2.10/24 \x1b]0;evil\x07 by DHCP", Dropped: 2},
	{Cursor: 5, TimeUnixNs: epoch*1e9 + 2e9, Text: "ready"},
}

func sendLines(after uint64, tail uint32, to ipc.Sender[*log.Line], lines []*log.Line) error {
	if tail > 0 && int(tail) < len(lines) {
		lines = lines[len(lines)-int(tail):]
	}
	for _, l := range lines {
		if l.Cursor <= after {
			continue
		}
		if err := to.Send(l); err != nil {
			return err
		}
	}
	return nil
}

func (f fakeLog) ReadLog(_ context.Context, r *log.ReadLogRequest, to ipc.Sender[*log.Line]) error {
	switch {
	case r.Daemon == "booting":
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.boot++; f.boot > 2 {
			return errors.Join(sendLines(r.After, 0, to, logLines[:1]), status.Error(codes.FailedPrecondition, "the end of the test"))
		}
		return errors.Join(sendLines(r.After, 0, to, logLines[:2]), status.Error(codes.Unavailable, "the machine goes down"))
	case r.Daemon == "networkd":
		return sendLines(r.After, r.Tail, to, logLines)
	case r.Daemon == "moving" && r.After == 0:
		if err := sendLines(0, r.Tail, to, logLines[:2]); err != nil {
			return err
		}
		return status.Error(codes.Unavailable, "the daemon is being replaced: call again")
	case r.Daemon == "moving":
		if err := sendLines(r.After, r.Tail, to, logLines); err != nil {
			return err
		}
		return status.Error(codes.FailedPrecondition, "the end of the test")
	}
	return status.Errorf(codes.NotFound, "no daemon %q", r.Daemon)
}

func (fakeLog) ReadKernel(_ context.Context, r *log.ReadKernelRequest, to ipc.Sender[*log.Line]) error {
	return sendLines(r.After, r.Tail, to, []*log.Line{{Cursor: 1, TimeUnixNs: epoch * 1e9, Text: "Linux version 6.12.40"}})
}

type fakeNetwork struct{}

func (fakeNetwork) ListLinks(context.Context, *network.ListLinksRequest) (*network.ListLinksResponse, error) {
	return &network.ListLinksResponse{Links: []*network.Link{
		{Index: 1, Name: "lo", Kind: "loopback", Up: true, Carrier: true, MtuBytes: 65536},
		{Index: 2, Name: "eth0", Kind: "physical", Up: true, Carrier: true, Mac: "52:54:00:12:34:56", MtuBytes: 1500, Driver: "virtio_net", RxBytes: 1 << 20, TxBytes: 1536},
	}}, nil
}

func (fakeNetwork) ListAddresses(context.Context, *network.ListAddressesRequest) (*network.ListAddressesResponse, error) {
	return &network.ListAddressesResponse{Addresses: []*network.Address{
		{Link: "lo", Address: "127.0.0.1/8", Scope: "host", Origin: "kernel"},
		{Link: "eth0", Address: "10.0.2.15/24", Scope: "global", Origin: "dhcp", ValidS: 86399},
	}}, nil
}

func (fakeNetwork) ListRoutes(context.Context, *network.ListRoutesRequest) (*network.ListRoutesResponse, error) {
	return &network.ListRoutesResponse{Routes: []*network.Route{
		{Destination: "default", Gateway: "10.0.2.2", Link: "eth0", Source: "10.0.2.15", Metric: 1024, Origin: "dhcp"},
		{Destination: "10.0.2.0/24", Link: "eth0", Source: "10.0.2.15", Origin: "kernel"},
	}}, nil
}

func (fakeNetwork) ListResolvers(context.Context, *network.ListResolversRequest) (*network.ListResolversResponse, error) {
	return &network.ListResolversResponse{Addresses: []string{"10.0.2.3"}}, nil
}

func (fakeNetwork) ListTimeServers(context.Context, *network.ListTimeServersRequest) (*network.ListTimeServersResponse, error) {
	return &network.ListTimeServersResponse{Addresses: []string{"10.0.2.4"}}, nil
}

type fakeStorage struct{}

func (fakeStorage) ListDisks(context.Context, *storage.ListDisksRequest) (*storage.ListDisksResponse, error) {
	return &storage.ListDisksResponse{Disks: []*storage.Disk{
		{Name: "vda", Model: "QEMU disk", Serial: "d1", SizeBytes: 8 << 30, Transport: "virtio", System: true},
	}}, nil
}

func (fakeStorage) ListPartitions(context.Context, *storage.ListPartitionsRequest) (*storage.ListPartitionsResponse, error) {
	return &storage.ListPartitionsResponse{Partitions: []*storage.Partition{
		{Name: "vda1", Disk: "vda", Label: "ESP", Type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", Uuid: "11111111-2222-3333-4444-555555555555", StartBytes: 1 << 20, SizeBytes: 64 << 20},
	}}, nil
}

func (fakeStorage) ListMounts(context.Context, *storage.ListMountsRequest) (*storage.ListMountsResponse, error) {
	return &storage.ListMountsResponse{Mounts: []*storage.Mount{
		{Volume: "root", Source: "/dev/dm-0", Target: "/", Filesystem: "squashfs", ReadOnly: true, SizeBytes: 28 << 20, UsedBytes: 28 << 20},
		{Volume: "ephemeral", Source: "tmpfs", Target: "/var", Filesystem: "tmpfs", SizeBytes: 1 << 30, UsedBytes: 4096, Note: "in memory: no disk"},
	}}, nil
}

type fakeTime struct{}

func (fakeTime) GetTime(context.Context, *systime.GetTimeRequest) (*systime.GetTimeResponse, error) {
	return &systime.GetTimeResponse{TimeUnixNs: epoch * 1e9, Synchronized: true, Server: "192.0.2.123", OffsetNs: -1500000, LastSyncUnixNs: (epoch - 60) * 1e9}, nil
}

type fakeConfig struct{}

func (fakeConfig) GetConfig(context.Context, *config.GetConfigRequest) (*config.GetConfigResponse, error) {
	return &config.GetConfigResponse{Yaml: "machine:\n  hostname: node-1\n", Source: "state", Error: "cluster.yaml:3:1: unknown key"}, nil
}

func (fakeConfig) GetNetwork(context.Context, *config.GetNetworkRequest) (*config.Network, error) {
	return nil, errors.New("no client outside may call this")
}

func (fakeConfig) GetTime(context.Context, *config.GetTimeRequest) (*config.Time, error) {
	return nil, errors.New("no client outside may call this")
}

func (fakeConfig) GetKubernetes(context.Context, *config.GetKubernetesRequest) (*config.Kubernetes, error) {
	return nil, errors.New("no client outside may call this")
}

type fakeKube struct{ *fake }

func (f fakeKube) GetStatus(context.Context, *kube.GetStatusRequest) (*kube.GetStatusResponse, error) {
	if f.noCluster {
		return &kube.GetStatusResponse{State: kube.ClusterState_CLUSTER_STATE_NOT_CONFIGURED, Message: "no cluster configured"}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	state := kube.ClusterState_CLUSTER_STATE_NOT_READY
	if f.readyAt > 0 && f.asked >= f.readyAt {
		state = kube.ClusterState_CLUSTER_STATE_READY
	}
	return &kube.GetStatusResponse{
		State: state, Ready: state == kube.ClusterState_CLUSTER_STATE_READY,
		Configured: true, Message: "kubelet is not healthy", Cluster: "home", Node: "node-1", Address: "10.0.2.15", NodeReady: true, NodeReadyMs: 5000,
		Components: []*kube.Component{
			{Name: "etcdd", State: machineapi.DaemonState_DAEMON_STATE_UP, Version: "3.6.16", Pid: 40, Uid: 110, MemoryBytes: 47 << 20, Healthy: true, SinceMs: 312000},
			{Name: "kube-apiserver", State: machineapi.DaemonState_DAEMON_STATE_UP, Version: "v1.36.3", Pid: 41, Uid: 111, MemoryBytes: 219 << 20, Restarts: 1, Healthy: true, SinceMs: 61000},
			{Name: "kubelet", State: machineapi.DaemonState_DAEMON_STATE_UP, Version: "v1.36.3", Pid: 44, MemoryBytes: 46 << 20, SinceMs: 1200, Reason: "/healthz: connection refused"},
			{Name: "coredns", State: machineapi.DaemonState_DAEMON_STATE_IDLE, Uid: 114, WaitingFor: "kube-apiserver", Reason: "its DNS needs Services"},
		}}, nil
}

func (fakeKube) RestartComponent(_ context.Context, r *kube.RestartComponentRequest) (*kube.RestartComponentResponse, error) {
	switch r.Name {
	case "kubelet":
		return &kube.RestartComponentResponse{Pid: 91}, nil
	case "coredns":
		return nil, status.Error(codes.FailedPrecondition, "coredns is not running yet: it waits for kube-apiserver")
	}
	return nil, status.Errorf(codes.NotFound, "no component %q", r.Name)
}

func (f fakeKube) GetKubeconfigInfo(context.Context, *kube.GetKubeconfigInfoRequest) (*kube.KubeconfigInfo, error) {
	if f.noCluster {
		return nil, status.Error(codes.FailedPrecondition, "no cluster configured")
	}
	return &kube.KubeconfigInfo{
		Cluster: "home", Servers: []string{"https://10.0.2.15:6443", "https://127.0.0.1:6443"}, Authority: []byte(toPEM(pemCertificate, f.ca.Raw)),
	}, nil
}

// fakePods has two images and takes archives that begin with "tar ". It stores one
// credential.
type fakePods struct {
	credential *pods.SetRegistryCredentialRequest
}

func (f *fakePods) SetRegistryCredential(_ context.Context, r *pods.SetRegistryCredentialRequest) (*pods.SetRegistryCredentialResponse, error) {
	if strings.Contains(r.Registry, "://") || r.Password != "secret" {
		return nil, status.Errorf(codes.InvalidArgument, "%q is no registry, or %q not the password", r.Registry, r.Password)
	}
	f.credential = r
	return &pods.SetRegistryCredentialResponse{}, nil
}

func (f *fakePods) RemoveRegistryCredential(_ context.Context, r *pods.RemoveRegistryCredentialRequest) (*pods.RemoveRegistryCredentialResponse, error) {
	if f.credential == nil || f.credential.Registry != r.Registry {
		return nil, status.Errorf(codes.NotFound, "there is no credential for %q", r.Registry)
	}
	f.credential = nil
	return &pods.RemoveRegistryCredentialResponse{}, nil
}

func (f *fakePods) ListRegistryCredentials(context.Context, *pods.ListRegistryCredentialsRequest) (*pods.ListRegistryCredentialsResponse, error) {
	r := &pods.ListRegistryCredentialsResponse{}
	if c := f.credential; c != nil {
		r.Credentials = append(r.Credentials, &pods.RegistryCredential{Registry: c.Registry, Username: c.Username})
	}
	return r, nil
}

func (*fakePods) GetRuntime(context.Context, *pods.GetRuntimeRequest) (*pods.Runtime, error) {
	return &pods.Runtime{Serving: true, Name: "containerd", Version: "v2.3.7", NetworkReady: true}, nil
}

func (*fakePods) ListPods(context.Context, *pods.ListPodsRequest) (*pods.ListPodsResponse, error) {
	return &pods.ListPodsResponse{}, nil
}

func (*fakePods) ListImages(context.Context, *pods.ListImagesRequest) (*pods.ListImagesResponse, error) {
	return &pods.ListImagesResponse{DiskFreeBytes: 3 << 30, Images: []*pods.Image{
		{Id: "sha256:0123456789abcdef", Names: []string{"docker.io/library/app:1", "docker.io/library/app:latest"}, SizeBytes: 4 << 20, Loaded: true},
		{Id: "sha256:fedcba9876543210", Names: []string{"registry.k8s.io/pause:3.10.1"}, SizeBytes: 5752, System: true},
		{Id: "sha256:00", SizeBytes: 1},
	}}, nil
}

func (f *fakePods) LoadImage(_ context.Context, from ipc.Receiver[*pods.LoadImageRequest]) (*pods.LoadImageResponse, error) {
	return f.take(from, "docker.io/library/app:2")
}

func (f *fakePods) ReplaceImage(_ context.Context, from ipc.Receiver[*pods.LoadImageRequest]) (*pods.LoadImageResponse, error) {
	return f.take(from, "docker.io/library/replaced:1")
}

// take takes an archive, whose one image is called otherwise unless the header says.
func (*fakePods) take(from ipc.Receiver[*pods.LoadImageRequest], otherwise string) (*pods.LoadImageResponse, error) {
	head, err := from.Recv()
	if err != nil {
		return nil, err
	}
	if head.Header == nil || len(head.Chunk) > 0 {
		return nil, status.Error(codes.InvalidArgument, "the first message is a header")
	}
	var archive []byte
	for {
		next, err := from.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		archive = append(archive, next.Chunk...)
	}
	if want := head.Header.SizeBytes; want != 0 && want != uint64(len(archive)) {
		return nil, status.Errorf(codes.InvalidArgument, "%d bytes came, %d were said", len(archive), want)
	}
	if !bytes.HasPrefix(archive, []byte("tar ")) {
		return nil, status.Error(codes.InvalidArgument, "not an image archive: want what docker save writes, or a tar of an OCI layout")
	}
	name := head.Header.Name
	if name == "" {
		name = otherwise
	}
	return &pods.LoadImageResponse{Images: []*pods.LoadedImage{{Id: "sha256:abcdef0123456789", Names: []string{name}, SizeBytes: uint64(len(archive))}}}, nil
}

func (*fakePods) RemoveImage(_ context.Context, r *pods.RemoveImageRequest) (*pods.RemoveImageResponse, error) {
	switch r.Name {
	case "app:1":
		return &pods.RemoveImageResponse{Names: []string{"docker.io/library/app:1", "docker.io/library/app:latest"}}, nil
	case "registry.k8s.io/pause:3.10.1":
		return nil, status.Errorf(codes.FailedPrecondition, "%s belongs to the system", r.Name)
	}
	return nil, status.Errorf(codes.NotFound, "no image %q", r.Name)
}

// fakeEtcd streams a snapshot in parts.
type fakeEtcd struct{ *fake }

func (f fakeEtcd) GetStatus(context.Context, *etcd.GetStatusRequest) (*etcd.Status, error) {
	return &etcd.Status{
		Serving: true, Version: "3.6.16", SizeBytes: 20 << 20, InUseBytes: 3 << 20, QuotaBytes: 2 << 30, Revision: 812, RaftIndex: 1043,
		RaftApplied: 1043, RaftTerm: 3, Member: "8e9e05c52164694d", LastBackupUnixNs: epoch * 1e9,
	}, nil
}

func (f fakeEtcd) Snapshot(_ context.Context, _ *etcd.SnapshotRequest, to ipc.Sender[*etcd.SnapshotPart]) error {
	content := bytes.Repeat([]byte("every secret of the cluster\n"), 4096)
	sum := sha256.Sum256(content)
	if f.badSnapshot {
		sum[0] ^= 1
	}
	file := append(content, sum[:]...)
	for len(file) > 0 {
		n := min(len(file), 30001)
		if f.cutSnapshot && n == len(file) {
			return nil
		}
		if err := to.Send(&etcd.SnapshotPart{Data: file[:n], LeftBytes: int64(len(file) - n)}); err != nil {
			return err
		}
		file = file[n:]
	}
	return nil
}

type fakeTrust struct{ *fake }

func (fakeTrust) ListCertificates(context.Context, *trust.ListCertificatesRequest) (*trust.ListCertificatesResponse, error) {
	return &trust.ListCertificatesResponse{Certificates: []*trust.Certificate{
		{Kind: "ca", Subject: "Dactyl OS CA", Ca: "os", Serial: "01", Fingerprint: "ab12", NotBeforeUnix: epoch, NotAfterUnix: epoch + 315360000},
		{Kind: "server", Subject: "node-1", Ca: "os", Serial: "02", Fingerprint: "cd34", NotBeforeUnix: epoch, NotAfterUnix: epoch + 86400, Names: []string{"127.0.0.1", "localhost"}},
		{Kind: "client", Subject: "alice", Role: auth.Role_ROLE_ADMIN, Ca: "os", Serial: "03", Fingerprint: "ef56", NotBeforeUnix: epoch, NotAfterUnix: epoch + 86400, Lineage: []string{"01", "03"}},
	}}, nil
}

func (f fakeTrust) Claim(_ context.Context, r *trust.ClaimRequest) (*trust.ClaimResponse, error) {
	csr, err := x509.ParseCertificateRequest(r.Csr)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "CSR: %v", err)
	}
	secret := f.code().Secret
	if !trust.Equal(r.Proof, trust.Proof(secret, f.ca.Raw, r.Csr)) {
		return nil, status.Error(codes.PermissionDenied, "wrong proof")
	}
	first, err := f.claim(csr)
	switch {
	case err != nil:
		return nil, err
	case first && f.loseClaim:
		return nil, status.Error(codes.Unavailable, "the daemon died while it served Claim")
	case first && f.afterClaim != nil:
		return nil, f.afterClaim()
	}
	return &trust.ClaimResponse{Certificate: f.admin, Authority: f.ca.Raw, Confirm: trust.Confirm(secret, f.admin, f.ca.Raw)}, nil
}

// claim makes the CSR's key the owner, or finds that it is.
func (f fakeTrust) claim(csr *x509.CertificateRequest) (first bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.claimed == nil:
		f.claimed = csr.RawSubjectPublicKeyInfo
		f.admin = f.client("admin", "admin", 365*24*time.Hour, csr.PublicKey).Raw
		return true, nil
	case !bytes.Equal(f.claimed, csr.RawSubjectPublicKeyInfo):
		return false, status.Error(codes.FailedPrecondition, "claimed already")
	}
	return false, nil
}

func (f fakeTrust) IssueClient(_ context.Context, r *trust.IssueClientRequest) (*trust.IssueClientResponse, error) {
	csr, err := x509.ParseCertificateRequest(r.Csr)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "CSR: %v", err)
	}
	if !r.Role.Issuable() {
		return nil, status.Errorf(codes.InvalidArgument, "role %v: want reader, operator or admin", r.Role)
	}
	ttl := time.Duration(r.TtlS) * time.Second
	if ttl == 0 {
		ttl = 24 * time.Hour
	}
	cert := f.client(r.Name, words.Of(r.Role), ttl, csr.PublicKey)
	return &trust.IssueClientResponse{Certificate: cert.Raw, Authority: f.ca.Raw}, nil
}

func (f fakeTrust) IssueKubernetesClient(_ context.Context, r *trust.IssueKubernetesClientRequest) (*trust.IssueKubernetesClientResponse, error) {
	csr, err := x509.ParseCertificateRequest(r.Csr)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "CSR: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issued++
	cert := f.client(fmt.Sprintf("%s, number %d", r.Name, f.issued), "dactyl:admins", time.Duration(r.TtlS)*time.Second, csr.PublicKey)
	return &trust.IssueKubernetesClientResponse{Certificate: cert.Raw, Authority: f.ca.Raw}, nil
}

func (fakeTrust) PrepareKubernetes(context.Context, *trust.PrepareKubernetesRequest) (*trust.PrepareKubernetesResponse, error) {
	return nil, errors.New("no client outside may call this")
}

func (fakeTrust) IssueServer(context.Context, *trust.IssueServerRequest) (*trust.IssueServerResponse, error) {
	return nil, errors.New("no client outside may call this")
}

func (fakeTrust) GetPairing(context.Context, *trust.GetPairingRequest) (*trust.Pairing, error) {
	return nil, errors.New("no client outside may call this")
}

type fakeDev struct{ *fake }

func (f fakeDev) ReplaceDaemon(_ context.Context, from ipc.Receiver[*dev.ReplaceDaemonRequest]) (*dev.ReplaceDaemonResponse, error) {
	head, err := from.Recv()
	if err != nil {
		return nil, err
	}
	if head.Name != "networkd" {
		return nil, status.Errorf(codes.NotFound, "no daemon %q", head.Name)
	}
	binary := bytes.Clone(head.Chunk)
	for {
		next, err := from.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		binary = append(binary, next.Chunk...)
	}
	if sum := sha256.Sum256(binary); !bytes.Equal(sum[:], head.Sha256) {
		return nil, status.Error(codes.InvalidArgument, "the bytes do not match the digest")
	}
	return &dev.ReplaceDaemonResponse{Pid: 99}, nil
}

func (f fakeDev) RestoreDaemon(_ context.Context, r *dev.RestoreDaemonRequest) (*dev.RestoreDaemonResponse, error) {
	if r.Name != "networkd" {
		return nil, status.Errorf(codes.FailedPrecondition, "%s runs the image's binary", r.Name)
	}
	return &dev.RestoreDaemonResponse{Pid: 100}, nil
}
