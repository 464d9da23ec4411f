package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3compactor"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/features"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// What follows differs from etcd's defaults because there is one member, whose disk
// is small and shared. The rest are etcd's defaults, written down because they are
// set by the command that we do not use.
const (
	// memberName does not change with the host's name.
	memberName = "dactyl"
	// peerURL identifies the member. Nobody listens there: there are no peers.
	peerURL   = "http://127.0.0.1:2380"
	clientURL = "https://127.0.0.1:2379"

	// walSegmentBytes is how large a file of the log is, which is allocated before
	// it is needed: two in use and the next make 48 MB instead of 384.
	walSegmentBytes = 16 << 20
	walFiles        = 2
	snapFiles       = 2
	// snapshotEntries is after how many writes the log before them is not needed any more
	// (etcd: 10 000). What is in the log is in memory too, so fewer make the process smaller.
	snapshotEntries = 5_000
	// catchUpEntries are kept for followers that lag (etcd: 5 000): there are none.
	catchUpEntries = 100

	// tick and electionTicks decide how long a start takes, as even a member alone
	// elects itself, at a random moment after that many ticks (etcd: 10).
	tick          = 100 * time.Millisecond
	electionTicks = 2

	// history is how long old values are kept should nobody compact. kube-apiserver
	// does, every 5 minutes.
	history = time.Hour

	// slow is from when on a write is worth a warning (etcd: 100 ms, which a memory
	// card takes as a matter of course).
	slow = time.Second

	maxRequestBytes = 1536 << 10
	maxTxnOps       = 128
	bcryptCost      = 10 // of passwords that nobody has, but it must be a valid one
)

// serverConfig is that of a database in d that may grow to quota.
func serverConfig(d dir, quota int64, log *zap.Logger) config.ServerConfig {
	peers := types.URLs{mustParse(peerURL)}
	return config.ServerConfig{
		Name:                        memberName,
		DataDir:                     d.path,
		PeerURLs:                    peers,
		ClientURLs:                  types.URLs{mustParse(clientURL)},
		InitialPeerURLsMap:          types.URLsMap{memberName: peers},
		InitialClusterToken:         rand.Text(), // of a new one: so that no two clusters take each other's members
		NewCluster:                  true,        // if there is none yet
		SnapshotCount:               snapshotEntries,
		SnapshotCatchUpEntries:      catchUpEntries,
		MaxSnapFiles:                snapFiles,
		MaxWALFiles:                 walFiles,
		TickMs:                      uint(tick / time.Millisecond),
		ElectionTicks:               electionTicks,
		InitialElectionTickAdvance:  true,
		PreVote:                     true,
		AutoCompactionMode:          v3compactor.ModePeriodic,
		AutoCompactionRetention:     history,
		QuotaBackendBytes:           quota,
		BackendFreelistType:         bolt.FreelistMapType, // finding free pages costs the same whatever the size
		MaxTxnOps:                   maxTxnOps,
		MaxRequestBytes:             maxRequestBytes,
		MaxConcurrentStreams:        math.MaxUint32, // kube-apiserver has one for each watch
		StrictReconfigCheck:         true,
		ClientCertAuthEnabled:       true,
		AuthToken:                   "", // nobody has a password: certificates say who is who
		BcryptCost:                  bcryptCost,
		WarningApplyDuration:        slow,
		WarningUnaryRequestDuration: slow,
		MaxLearners:                 membership.DefaultMaxLearners,
		V2Deprecation:               config.V2DeprDefault,
		ServerFeatureGate:           features.NewDefaultServerFeatureGate(memberName, log),
		Metrics:                     "basic",
		Logger:                      log,
	}
}

func mustParse(text string) url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return *u
}

// database is etcd's server without what its command puts around it: no web server, no
// gateway for JSON, no listener for peers, no tracing. It speaks gRPC on one socket.
type database struct {
	etcd  *etcdserver.EtcdServer
	rpc   *grpc.Server
	quota int64

	// copying is held for reading while a snapshot is read. Defragmenting waits for
	// readers with every write behind it, so it takes place only when there are none.
	copying sync.RWMutex
}

// openDatabase opens the database in d, or makes it, and brings it to where its log
// ends. It may panic or end the process when files are damaged: see repair.
func openDatabase(d dir, quota int64, tls *tls.Config, log *zap.Logger) (*database, error) {
	wal.SegmentSizeBytes = walSegmentBytes
	s, err := etcdserver.NewServer(serverConfig(d, quota, log))
	if err != nil {
		return nil, fmt.Errorf("open the database in %s: %w", d.path, err)
	}
	s.Start()
	rpc := v3rpc.Server(s, tls, nil,
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Hour, Timeout: 20 * time.Second}))
	return &database{etcd: s, rpc: rpc, quota: quota}, nil
}

// ready is closed when writes are taken.
func (b *database) ready() <-chan struct{} { return b.etcd.ReadyNotify() }

// ended is closed when etcd has stopped by itself.
func (b *database) ended() <-chan struct{} { return b.etcd.StopNotify() }

// serve answers clients until close.
func (b *database) serve(l net.Listener) error { return b.rpc.Serve(l) }

// goodbye is how long calls in flight may take after the end began: the only client
// that matters has been stopped before, and watches never end by themselves.
const goodbye = time.Second

// close answers what was asked, and then closes the files.
func (b *database) close() {
	hurry := time.AfterFunc(goodbye, b.rpc.Stop)
	b.rpc.GracefulStop()
	hurry.Stop()
	b.etcd.Stop()
}

// answers waits until the database has agreed with itself on what its last write was,
// which takes the whole way of a read through it.
func (b *database) answers(ctx context.Context) error { return b.etcd.LinearizableReadNotify(ctx) }

// sizes are of the file, and of what in it is not free.
func (b *database) sizes() (file, inUse int64) {
	back := b.etcd.Backend()
	return back.Size(), back.SizeInUse()
}

// Alarms, by etcd's names.
const (
	noSpace = "NOSPACE" // whatever needs space is refused
	corrupt = "CORRUPT" // members, or a member and its log, contradict each other
)

// alarms are those that are on.
func (b *database) alarms() []string {
	var names []string
	for _, a := range b.etcd.Alarms() {
		names = append(names, a.Alarm.String())
	}
	return names
}

// refuseWrites turns on the alarm with which etcd refuses whatever needs space. Reads,
// deletions and compaction go on.
func (b *database) refuseWrites(ctx context.Context) error {
	return b.alarm(ctx, etcdserverpb.AlarmRequest_ACTIVATE)
}

// takeWrites turns it off.
func (b *database) takeWrites(ctx context.Context) error {
	return b.alarm(ctx, etcdserverpb.AlarmRequest_DEACTIVATE)
}

func (b *database) alarm(ctx context.Context, action etcdserverpb.AlarmRequest_AlarmAction) error {
	_, err := b.etcd.Alarm(ctx, &etcdserverpb.AlarmRequest{Action: action, MemberID: uint64(b.etcd.MemberID()), Alarm: etcdserverpb.AlarmType_NOSPACE})
	if err != nil {
		return fmt.Errorf("alarm of the database: %w", err)
	}
	return nil
}

// compact forgets all values but the latest.
func (b *database) compact(ctx context.Context) error {
	_, err := b.etcd.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: b.etcd.KV().Rev(), Physical: true})
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) { // that there is nothing to forget
		return fmt.Errorf("compact the database: %w", err)
	}
	return nil
}

// defragment writes the database anew without what is free in it. Nothing is read or
// written meanwhile. It does nothing while a snapshot is read.
func (b *database) defragment() (done bool, err error) {
	if !b.copying.TryLock() {
		return false, nil
	}
	defer b.copying.Unlock()
	if err := b.etcd.Defragment(); err != nil {
		return false, fmt.Errorf("defragment the database: %w", err)
	}
	return true, nil
}

// snapshot writes the database as it is now, and the SHA-256 of that, to w; size is
// called before the first byte. The pages it reads are not used again until it ends, so a
// reader who takes his time makes the file grow.
func (b *database) snapshot(w io.Writer, size func(int64)) error {
	b.copying.RLock()
	defer b.copying.RUnlock()
	s := b.etcd.Backend().Snapshot()
	defer s.Close()
	size(s.Size() + sha256.Size)
	sum := sha256.New()
	if _, err := s.WriteTo(io.MultiWriter(w, sum)); err != nil {
		return err
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}
