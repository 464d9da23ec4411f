package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/etcd"
)

const (
	// lookInterval is how often the keeper looks: a full disk is noticed before etcd,
	// which grows in large steps, stumbles over it.
	lookInterval = 5 * time.Second
	// answerTimeout is how long GetStatus waits for the database to answer.
	answerTimeout = time.Second
	// snapshotPart is how much one message of a snapshot carries.
	snapshotPart = 64 << 10
	// snapshotTimeout is how long a snapshot may take: meanwhile the file only grows.
	snapshotTimeout = 15 * time.Minute
)

// server is the service, and the life of the database behind it.
type server struct {
	dir         dir
	certificate *certificate
	clock       func() time.Time
	space       func() (space, error) // of the disk
	every       time.Duration         // how often the keeper looks
	log         *slog.Logger

	proven bool // the database has served for long enough

	mu      sync.Mutex // guards what follows
	db      *database  // nil until it takes writes
	opened  time.Time
	memory  memory
	message string // what is wrong
	notice  string // what has been wrong and people must know: "" or a sentence
}

func newServer(d dir, c *certificate, clock func() time.Time, log *slog.Logger) *server {
	return &server{dir: d, certificate: c, clock: clock, space: d.space, every: lookInterval, log: log, message: "starting"}
}

// run opens the database, serves it on l and keeps it well until ctx ends.
func (s *server) run(ctx context.Context, l net.Listener) error {
	s.say("waiting for the certificate that trustd makes")
	if err := s.certificate.wait(ctx); err != nil {
		return orNil(ctx, err)
	}
	s.say("opening the database")
	begin := s.clock()
	db, err := s.open()
	if err != nil {
		return err
	}
	defer db.close()
	select {
	case <-ctx.Done():
		return nil
	case <-db.ended():
		return errors.New("etcd stopped while it started")
	case <-db.ready():
	}
	file, _ := db.sizes()
	s.log.Info("the database is open", "took", s.clock().Sub(begin).String(), "bytes", file, "revision", db.etcd.KV().Rev(), "quota_bytes", db.quota)
	s.mu.Lock()
	s.db, s.opened, s.message = db, s.clock(), ""
	s.mu.Unlock()
	defer s.forget()

	served := make(chan error, 1)
	go func() { served <- db.serve(l) }()
	look := time.NewTicker(s.every)
	defer look.Stop()
	for {
		s.keep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return fmt.Errorf("serve clients: %w", err)
		case <-db.ended():
			return errors.New("etcd stopped by itself")
		case <-look.C:
		}
	}
}

// orNil is err, or nil if it only says that ctx has ended.
func orNil(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *server) say(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.message = message
}

func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db, s.message = nil, "stopping"
}

// open gives the database room if the disk has none, mends what must be mended, and
// opens it.
func (s *server) open() (*database, error) {
	room, err := s.space()
	if err != nil {
		return nil, err
	}
	if room.free < lowWater && s.dir.hasReserve() {
		s.log.Warn("the disk is full: the reserve is given", "free_bytes", room.free)
		if err := s.dir.giveReserve(); err != nil {
			return nil, err
		}
	}
	notice, err := s.dir.mend(s.log)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.notice = notice
	s.mu.Unlock()
	watch, err := s.dir.watchCrashes()
	if err != nil {
		return nil, err
	}
	return openDatabase(s.dir, quotaOf(room.size), s.certificate.tls(), newLogger(s.log, watch))
}

// keep looks once and does what is to be done.
func (s *server) keep(ctx context.Context) {
	seen, err := s.look()
	if err != nil {
		s.log.Warn("look after the database", "err", err)
		return
	}
	if seen.serving >= proven && !s.proven {
		s.proven = true
		s.dir.forgetCrashes()
	}
	s.mu.Lock()
	before := s.memory
	s.mu.Unlock()
	after, do := next(before, seen)
	for _, a := range do {
		if err := s.do(ctx, a, seen); err != nil && ctx.Err() == nil {
			s.log.Warn(string(a), "err", err)
		}
	}
	seen.refusing = slices.Contains(s.db.alarms(), noSpace)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory, s.message = after, seen.trouble(after)
}

func (s *server) look() (seen, error) {
	room, err := s.space()
	if err != nil {
		return seen{}, err
	}
	file, inUse := s.db.sizes()
	now := s.clock()
	return seen{
		now: now, serving: now.Sub(s.opened),
		file: file, inUse: inUse, quota: s.db.quota,
		disk: room.size, free: room.free,
		refusing: slices.Contains(s.db.alarms(), noSpace),
		reserved: s.dir.hasReserve(), keeps: !room.inMemory,
		copied: s.dir.copied(),
	}, nil
}

// do does one thing, and says so unless it happens every day.
func (s *server) do(ctx context.Context, a action, seen seen) error {
	switch a {
	case giveReserve:
		return s.dir.giveReserve()
	case takeReserve:
		return s.dir.takeReserve(reserveOf(seen.disk))
	case refuseWrites:
		s.log.Warn("writes are refused: the disk is full", "free_bytes", seen.free)
		return s.db.refuseWrites(ctx)
	case takeWrites:
		s.log.Info("writes are taken again", "free_bytes", seen.free, "in_use_bytes", seen.inUse, "quota_bytes", seen.quota)
		return s.db.takeWrites(ctx)
	case compact:
		s.log.Info("the database is full: compacting", "in_use_bytes", seen.inUse, "quota_bytes", seen.quota)
		return s.db.compact(ctx)
	case defragment:
		begin := s.clock()
		done, err := s.db.defragment()
		if file, _ := s.db.sizes(); done {
			s.log.Info("defragmented", "took", s.clock().Sub(begin).String(), "before_bytes", seen.file, "after_bytes", file)
		}
		return err
	case backup:
		return s.dir.writeCopy(func(f *os.File) error { return s.db.snapshot(f, func(int64) {}) })
	}
	panic("BUG: no such action: " + string(a))
}

// GetStatus implements etcd.Server.
func (s *server) GetStatus(ctx context.Context, _ *etcd.GetStatusRequest) (*etcd.Status, error) {
	s.mu.Lock()
	db, message, notice, m := s.db, s.message, s.notice, s.memory
	s.mu.Unlock()
	st := &etcd.Status{Version: version.Version, LastDefragmentUnixNs: unixNs(m.defragmented), LastBackupUnixNs: unixNs(s.dir.copied()),
		CertificateExpiresUnixNs: unixNs(s.certificate.notAfter())}
	if db == nil {
		st.Message = message
		return st, nil
	}
	e := db.etcd
	st.SizeBytes, st.InUseBytes = db.sizes()
	st.QuotaBytes, st.Alarms = db.quota, db.alarms()
	st.Revision, st.RaftIndex, st.RaftApplied, st.RaftTerm = e.KV().Rev(), e.CommittedIndex(), e.AppliedIndex(), e.Term()
	st.Member = e.MemberID().String()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	switch err := db.answers(ctx); {
	case err != nil:
		message = fmt.Sprintf("the database gave no answer within %v: %v", answerTimeout, err)
	case slices.Contains(st.Alarms, corrupt):
		message = "the database contradicts itself"
	default:
		st.Serving = true
	}
	st.Message = strings.Join(nonEmpty(message, notice), "; ")
	return st, nil
}

func nonEmpty(all ...string) []string {
	var out []string
	for _, text := range all {
		if text != "" {
			out = append(out, text)
		}
	}
	return out
}

func unixNs(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Snapshot implements etcd.Server. What reads the database does not wait for the
// client for ever: it is cut off by the timeout even while a message is on its way.
func (s *server) Snapshot(ctx context.Context, _ *etcd.SnapshotRequest, stream ipc.Sender[*etcd.SnapshotPart]) error {
	s.mu.Lock()
	db, message := s.db, s.message
	s.mu.Unlock()
	if db == nil {
		return status.Error(codes.Unavailable, "the database is not served: "+message)
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	from, to := io.Pipe()
	defer from.Close()
	defer context.AfterFunc(ctx, func() { from.CloseWithError(ctx.Err()) })()
	size := make(chan int64, 1)
	go func() { to.CloseWithError(db.snapshot(to, func(n int64) { size <- n })) }()
	for left := <-size; left > 0; {
		part := make([]byte, min(left, snapshotPart)) // ttrpc may still have the last one
		if _, err := io.ReadFull(from, part); err != nil {
			return status.Errorf(codes.Unavailable, "read the database: %v", err)
		}
		left -= int64(len(part))
		if err := stream.Send(&etcd.SnapshotPart{Data: part, LeftBytes: left}); err != nil {
			return err
		}
	}
	return nil
}
