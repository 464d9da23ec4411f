package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/etcd"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/test/alone"
)

func TestOnlyWhoHasACertificateIsServed(t *testing.T) {
	w := newWorld(t)
	w.start()
	c := w.client()
	w.put(c, "a", "1")
	if got := w.get(c, "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
	stranger, err := alone.NewAuthority("etcd") // the same name, another key
	if err != nil {
		t.Fatal(err)
	}
	foreign := w.tls()
	foreign.Certificates = []tls.Certificate{pairOf(t, stranger)}
	old := w.tls()
	old.MaxVersion = tls.VersionTLS12
	for name, config := range map[string]*tls.Config{"none": {RootCAs: w.tls().RootCAs}, "a stranger's": foreign, "TLS 1.2": old} {
		conn, err := tls.Dial("tcp", w.address, config)
		if err == nil { // the server refuses after the client thinks all is well
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("certificate %s: served (%v)", name, err)
		}
	}
}

func TestARenewedCertificateIsShownAtOnce(t *testing.T) {
	w := newWorld(t)
	w.start()
	c := w.client()
	w.put(c, "a", "1")
	before := w.shown()
	w.issue(time.Hour)
	if after := w.shown(); after.Equal(before) {
		t.Errorf("still the certificate that expires %v", before)
	}
	if got := w.status().CertificateExpiresUnixNs; got > time.Now().Add(time.Hour).UnixNano() {
		t.Errorf("status tells of %v", time.Unix(0, got))
	}
	w.put(c, "a", "2") // on the old connection

	// A key that does not belong to the certificate: trustd is between two renames.
	if err := os.WriteFile(filepath.Join(w.certs, "server.key"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.shown()
}

func TestWithoutACertificateItSaysWhatItWaitsFor(t *testing.T) {
	w := newWorld(t)
	if err := os.RemoveAll(w.certs); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.until(func(s *etcd.Status) bool { return strings.Contains(s.Message, "waiting for the certificate") })
	stream, err := w.etcd.Snapshot(t.Context(), &etcd.SnapshotRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil {
		t.Error("a snapshot of nothing")
	}
	if err := os.Mkdir(w.certs, 0o700); err != nil {
		t.Fatal(err)
	}
	w.issue(2 * time.Hour)
	w.until(serving)
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.start()
	c := w.client()
	before := w.status()
	w.put(c, "a", "1")
	w.until(func(s *etcd.Status) bool { return s.RaftApplied == s.RaftIndex }) // etcd answers a write before it counts it
	after := w.status()
	if after.Revision != before.Revision+1 || after.RaftIndex <= before.RaftIndex {
		t.Errorf("before a write %v\nafter it      %v", before, after)
	}
	if !strings.HasPrefix(after.Version, "3.6.") || after.SizeBytes < after.InUseBytes || after.QuotaBytes != testQuota || len(after.Alarms) > 0 || after.Message != "" {
		t.Errorf("%v", after)
	}
}

// TestSnapshot reads the stream with etcd's own tools.
func TestSnapshot(t *testing.T) {
	w := newWorld(t)
	w.start()
	c := w.client()
	for i := range 300 {
		w.put(c, fmt.Sprint("key", i), strings.Repeat("x", 2000))
	}
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, w.snapshot(), 0o600); err != nil {
		t.Fatal(err)
	}
	etcdutl := tool(t, "etcdutl")
	if out := etcdutl("snapshot", "status", path, "-w", "fields"); !strings.Contains(out, `"Keys" : 300`) {
		t.Errorf("etcdutl says of it:\n%s", out)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	etcdutl("snapshot", "restore", path, "--data-dir", restored, "--name", memberName, "--initial-cluster", memberName+"="+peerURL, "--initial-advertise-peer-urls", peerURL)
	w.stop()
	w.dir = dir{restored}
	w.start()
	if got := w.get(w.client(), "key299"); got != strings.Repeat("x", 2000) {
		t.Errorf("key299 has %d bytes", len(got))
	}
}

// TestEtcdctl has etcd's own command write, read and watch.
func TestEtcdctl(t *testing.T) {
	w := newWorld(t)
	w.start()
	path := t.TempDir()
	if err := w.ca.Write(path, "etcdctl", "crt", "key", "ca", time.Hour); err != nil {
		t.Fatal(err)
	}
	run := tool(t, "etcdctl")
	etcdctl := func(args ...string) string {
		return run(append([]string{"--endpoints", "https://" + w.address, "--cert", filepath.Join(path, "crt"), "--key", filepath.Join(path, "key"), "--cacert", filepath.Join(path, "ca")}, args...)...)
	}
	etcdctl("put", "a", "1")
	if out := etcdctl("get", "a"); out != "a\n1\n" {
		t.Errorf("get: %q", out)
	}
	if out := etcdctl("endpoint", "health"); !strings.Contains(out, "is healthy") {
		t.Errorf("health: %s", out)
	}
	etcdctl("snapshot", "save", filepath.Join(path, "snapshot"))
	if out := etcdctl("member", "list"); !strings.Contains(out, memberName) {
		t.Errorf("members: %s", out)
	}
}

// A database at its quota recovers by itself once objects were deleted.
func TestAFullDatabaseRecovers(t *testing.T) {
	w := newWorld(t)
	w.quota = 32 * mib
	w.start()
	c := w.client()
	value := strings.Repeat("x", mib)
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = c.Put(t.Context(), fmt.Sprint("big", n), value)
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("after %d MiB: %v", n, err)
	}
	w.until(func(s *etcd.Status) bool { return strings.Contains(s.Message, "the database is full") && s.Serving })
	if _, err := c.Delete(t.Context(), "big", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	w.skip(2 * compactPause)
	w.until(func(s *etcd.Status) bool { return len(s.Alarms) == 0 && s.SizeBytes < 8*mib })
	w.put(c, "a", "1")
}

// When somebody else fills the disk, what is written stays readable, and writes are
// taken again by themselves when there is room.
func TestAFullDiskIsWaitedOut(t *testing.T) {
	w := newWorld(t)
	w.start()
	c := w.client()
	w.put(c, "a", "1")
	w.until(func(*etcd.Status) bool { return w.dir.hasReserve() })
	w.free.Store(lowWater - 1)
	w.until(func(s *etcd.Status) bool {
		return len(s.Alarms) == 1 && strings.Contains(s.Message, "the disk is full")
	})
	if _, err := c.Put(t.Context(), "a", "2"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("a write: %v", err)
	}
	if got := w.get(c, "a"); got != "1" || w.dir.hasReserve() {
		t.Errorf("a is %q, reserve %v", got, w.dir.hasReserve())
	}
	// It starts on a full disk, too.
	w.stop()
	w.start()
	c = w.client()
	if got := w.get(c, "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
	w.free.Store(100 << 30)
	w.until(func(s *etcd.Status) bool { return len(s.Alarms) == 0 && s.Message == "" })
	w.put(c, "a", "3")
	w.until(func(*etcd.Status) bool { return w.dir.hasReserve() })
}

func TestADailyCopy(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.skip(settled)
	w.until(func(s *etcd.Status) bool { return s.LastBackupUnixNs > 0 })
}

// A slow reader of a snapshot holds up nobody, and is not held up himself.
func TestASlowReaderOfASnapshot(t *testing.T) {
	w := newWorld(t)
	w.start()
	c := w.client()
	for i := range 20 {
		w.put(c, fmt.Sprint("big", i), strings.Repeat("x", mib))
	}
	stream, err := w.etcd.Snapshot(t.Context(), &etcd.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if done, err := w.server.db.defragment(); done || err != nil {
		t.Errorf("defragmented under a reader: %v, %v", done, err)
	}
	w.put(c, "a", "1")
	time.Sleep(2 * time.Second) // longer than ttrpc has patience with who does not read
	for left := int64(1); left > 0; {
		part, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		left = part.LeftBytes
	}
}

const testQuota = 256 * mib

// world is a database with all that it needs.
type world struct {
	*testing.T
	dir     dir
	certs   string
	ca      *alone.Authority
	quota   int64
	free    atomic.Int64
	ahead   atomic.Int64 // of the clock
	server  *server
	etcd    etcd.Client
	address string
	stop    func()
	ended   chan struct{}
	err     error // of run, once it has ended
}

func newWorld(t *testing.T) *world {
	ca, err := alone.NewAuthority("etcd")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, dir: dir{filepath.Join(t.TempDir(), "data")}, certs: filepath.Join(t.TempDir(), "certs"), ca: ca, quota: testQuota}
	if err := errors.Join(os.Mkdir(w.dir.path, 0o700), os.Mkdir(w.certs, 0o700)); err != nil {
		t.Fatal(err)
	}
	w.free.Store(100 << 30)
	w.issue(24 * time.Hour)
	return w
}

func (w *world) issue(life time.Duration) {
	w.Helper()
	if err := w.ca.Write(w.certs, "etcdd", certificateFiles[0], certificateFiles[1], certificateFiles[2], life); err != nil {
		w.Fatal(err)
	}
}

// skip lets the clock jump.
func (w *world) skip(d time.Duration) { w.ahead.Add(int64(d)) }

// run starts the server, which ends with the test or by stop.
func (w *world) run() {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	clock := func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
	s := newServer(w.dir, newCertificate(w.certs), clock, slog.New(slog.NewTextHandler(logTo{w.T}, nil)))
	s.every = 20 * time.Millisecond
	s.space = func() (space, error) { return space{size: w.quota * quotaShare, free: w.free.Load()}, nil }
	ctx, cancel := context.WithCancel(context.Background())
	w.server, w.address = s, l.Addr().String()
	ended := make(chan struct{})
	w.ended = ended
	go func() {
		w.err = s.run(ctx, l)
		close(ended)
	}()
	w.stop = func() {
		w.Helper()
		cancel()
		select {
		case <-ended:
			if w.err != nil {
				w.Error(w.err)
			}
		case <-time.After(20 * time.Second):
			w.Fatal("it does not end")
		}
		w.stop = func() {}
	}
	w.Cleanup(func() { w.stop() })
	may := map[string][]string{etcd.Service: {"GetStatus", "Snapshot"}}
	w.etcd = etcd.NewClient(ipctest.Pair(w.T, may, func(r ipc.Registrar) { etcd.Register(r, s) }))
}

func (w *world) start() {
	w.Helper()
	w.run()
	w.until(serving)
}

func serving(s *etcd.Status) bool { return s.Serving }

func (w *world) status() *etcd.Status {
	w.Helper()
	s, err := w.etcd.GetStatus(w.Context(), &etcd.GetStatusRequest{})
	if err != nil {
		w.Fatal(err)
	}
	return s
}

func (w *world) until(ok func(*etcd.Status) bool) {
	w.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		s := w.status()
		if ok(s) {
			return
		}
		select {
		case <-w.ended:
			w.FailNow()
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			w.Fatalf("still %v", s)
		}
	}
}

func (w *world) tls() *tls.Config {
	w.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.ca.Certificate)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pairOf(w.T, w.ca)}}
}

func pairOf(t *testing.T, a *alone.Authority) tls.Certificate {
	t.Helper()
	cert, key, err := a.Issue("client", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// shown is when the certificate expires that a new connection is shown.
func (w *world) shown() time.Time {
	w.Helper()
	conn, err := tls.Dial("tcp", w.address, w.tls())
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].NotAfter
}

func (w *world) client() *clientv3.Client {
	w.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{w.address}, TLS: w.tls(), DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	return c
}

func (w *world) put(c *clientv3.Client, key, value string) {
	w.Helper()
	if _, err := c.Put(w.Context(), key, value); err != nil {
		w.Fatalf("put %s: %v", key, err)
	}
}

func (w *world) get(c *clientv3.Client, key string) string {
	w.Helper()
	r, err := c.Get(w.Context(), key)
	if err != nil {
		w.Fatalf("get %s: %v", key, err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

// snapshot returns a snapshot whose sum is right.
func (w *world) snapshot() []byte {
	w.Helper()
	stream, err := w.etcd.Snapshot(w.Context(), &etcd.SnapshotRequest{})
	if err != nil {
		w.Fatal(err)
	}
	var all bytes.Buffer
	for {
		part, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			w.Fatal(err)
		}
		all.Write(part.Data)
	}
	b := all.Bytes()
	if len(b) < sha256.Size {
		w.Fatalf("a snapshot of %d bytes", len(b))
	}
	if sum := sha256.Sum256(b[:len(b)-sha256.Size]); !bytes.Equal(sum[:], b[len(b)-sha256.Size:]) {
		w.Error("the sum at the end is not that of what is before it")
	}
	return b
}

// logTo writes what is logged to the test's log.
type logTo struct{ *testing.T }

func (l logTo) Write(p []byte) (int, error) {
	l.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}
