package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dactyl-os/dactyl/daemons/kit"
)

// proven is how long a database must have been served until the death before that is
// forgotten: kube-apiserver reads all of it within seconds of its start.
const proven = 5 * time.Minute

// revisionBump is added to the revision of a database that was restored, so that no
// client which has seen more of the old one takes an old revision for a new. It is
// what etcd's documentation recommends for Kubernetes.
const revisionBump = 1_000_000_000

// mend makes the files fit to be opened, and says what people must know of it.
//
// It reads the database only if etcd died the last time before it had served for a
// while, of a fault in the program, a full disk, or damaged files, or if etcd would not
// notice that something is wrong: see missing. Only damage that it
// finds by reading the files makes it replace them, never how often something went
// wrong, so that a machine that loses power ten times in a row loses nothing else.
func (d dir) mend(log *slog.Logger) (notice string, err error) {
	if err := d.tidy(); err != nil {
		return "", err
	}
	died, err := os.ReadFile(d.crash())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	why, _, _ := strings.Cut(string(died), "\n")
	if why == "" && exists(d.db()) {
		if lost := d.missing(1); lost != nil {
			why = lost.Error()
		}
	}
	err = nil
	switch {
	case !exists(d.member()) && exists(d.copy()):
		err = d.replace(d.copy(), errors.New("the database is not there"), log)
	case exists(d.db()) && why != "":
		log.Warn("looking for damage: etcd died early the last time, or its files do not agree", "why", why)
		err = d.examine(log)
	}
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(d.broken(), "why"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return string(text), err
}

// tidy removes what a process that died has left unfinished. etcd does not remove
// what it writes while it defragments.
func (d dir) tidy() error {
	left, err := filepath.Glob(filepath.Join(d.snap(), "db.tmp.*"))
	if err != nil {
		return err
	}
	for _, path := range append(left, d.coming(), d.copy()+".tmp") {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// examine reads all files and replaces them if one is damaged: by the database
// itself if that is whole and only its log is not, which loses the last tenth of
// a second, else by the daily copy.
func (d dir) examine(log *slog.Logger) error {
	keys, inDatabase := readDatabase(d.db())
	inLog := readLog(d)
	switch {
	case !wal.Exist(d.wal()) && keys == 0 && d.unbegun():
		log.Info("a database that was just being made is recreated")
		return os.RemoveAll(d.member())
	case inDatabase == nil && inLog == nil:
		log.Info("the files are sound")
		return nil
	case inDatabase == nil:
		return d.replace(d.db(), fmt.Errorf("the log of the database is damaged: %w", inLog), log)
	case exists(d.copy()):
		return d.replace(d.copy(), fmt.Errorf("the database is damaged: %w", inDatabase), log)
	}
	return kit.Misconfigured(fmt.Errorf("the database in %s is damaged and there is no copy of it yet; it is left as it is: %w", d.path, inDatabase))
}

// replace makes a new member directory of the database from, and keeps the old one.
func (d dir) replace(from string, why error, log *slog.Logger) error {
	err := guard(func() error {
		return snapshot.NewV3(panicking()).Restore(snapshot.RestoreConfig{
			SnapshotPath: from, SkipHashCheck: from == d.db(),
			OutputDataDir: d.coming(), Name: memberName,
			PeerURLs: []string{peerURL}, InitialCluster: memberName + "=" + peerURL, InitialClusterToken: rand.Text(),
			RevisionBump: revisionBump, MarkCompacted: true,
		})
	})
	if err != nil {
		return fmt.Errorf("%w; restore it from %s: %w", why, from, err)
	}
	notice := fmt.Sprintf("%v; restored from its copy of %s, what was written later is lost", why, d.copied().UTC().Format(time.RFC3339))
	if from == d.db() {
		notice = fmt.Sprintf("%v; restored without it on %s, what was written in the last moments is lost", why, time.Now().UTC().Format(time.RFC3339))
	}
	if err := os.WriteFile(filepath.Join(d.coming(), "why"), []byte(notice), 0o600); err != nil {
		return err
	}
	if err := d.exchange(); err != nil {
		return fmt.Errorf("put the restored database in its place: %w", err)
	}
	log.Error(notice)
	return errors.Join(remove(d.crash()), d.sync())
}

// begunBytes is less than a database has written into which anything was put.
const begunBytes = 64 << 10

// unbegun tells whether the database is one that was being made when the power failed:
// etcd makes the file before the log, without which nothing is ever acknowledged.
func (d dir) unbegun() bool {
	n, err := allocated(d.db())
	return err == nil && n < begunBytes
}

// readDatabase reads the database and returns how many values it has, and what is
// wrong with it.
func readDatabase(path string) (values int, err error) {
	err = guard(func() error {
		db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			return err
		}
		defer db.Close()
		return db.View(func(tx *bolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
				keys := bytes.Equal(name, schema.Key.Name())
				var last []byte
				return b.ForEach(func(k, v []byte) error {
					if bytes.Compare(k, last) <= 0 {
						return fmt.Errorf("%s: keys are out of order", name)
					}
					last = k
					if !keys {
						return nil
					}
					values++
					return new(mvccpb.KeyValue).Unmarshal(v)
				})
			})
		})
	})
	return values, err
}

// readLog reads the raft's snapshots and the log behind the newest, as etcd will, and
// returns what is wrong and will not be repaired. That its end is torn is nothing.
func readLog(d dir) error {
	return guard(func() error {
		if err := d.missing(0); err != nil {
			return err
		}
		valid, err := wal.ValidSnapshotEntries(panicking(), d.wal())
		if err != nil {
			return err
		}
		var from walpb.Snapshot
		newest, err := snap.New(panicking(), d.snap()).LoadNewestAvailable(valid)
		switch {
		case err == nil:
			from.Index, from.Term = newest.Metadata.Index, newest.Metadata.Term
		case !errors.Is(err, snap.ErrNoSnapshot):
			return err
		}
		_, err = wal.Verify(panicking(), d.wal(), from)
		return err
	})
}

// missing says what is wrong if the log ends before what the database has of it. It
// reads the given number of the log's newest files, or all for 0.
//
// etcd takes a length that leads past the file's end for a torn write and cuts the log
// there. If it was damage in the middle, new entries get numbers that the database has
// already: etcd never serves, or leaves them out. An entry is in the log, and the log on the disk, before any of it is
// in the database: so a torn write never looks like this.
func (d dir) missing(files int) error {
	if !wal.Exist(d.wal()) {
		return errors.New("it is not there")
	}
	return guard(func() error {
		applied, err := appliedEntry(d.db())
		if err != nil {
			return err
		}
		names, err := filepath.Glob(filepath.Join(d.wal(), "*.wal")) // in the order of their entries
		if err != nil {
			return err
		}
		if files > 0 {
			names = names[max(0, len(names)-files):]
		}
		last, err := lastEntry(names)
		if err == nil && last < applied {
			err = fmt.Errorf("it ends with entry %d, the database has entry %d", last, applied)
		}
		return err
	})
}

// appliedEntry is the number of the last of the log's entries that is in the database.
func appliedEntry(path string) (n uint64, err error) {
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket(schema.Meta.Name()); b != nil {
			if v := b.Get(schema.MetaConsistentIndexKeyName); len(v) == 8 {
				n = binary.BigEndian.Uint64(v)
			}
		}
		return nil
	})
	return n, err
}

// lastEntry reads files of the log, one behind the other, and returns the number of the
// last entry that etcd will find there.
func lastEntry(paths []string) (last uint64, err error) {
	var files []fileutil.FileReader
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		files = append(files, fileutil.NewFileReader(f))
		var number, first uint64
		if _, err := fmt.Sscanf(filepath.Base(path), "%x-%x.wal", &number, &first); err != nil {
			return 0, fmt.Errorf("the log's file %s: %w", filepath.Base(path), err)
		}
		if len(files) == 1 && first > 0 {
			last = first - 1
		}
	}
	d := wal.NewDecoder(files...)
	var r walpb.Record
	for err = d.Decode(&r); err == nil; err = d.Decode(&r) {
		switch r.Type {
		case wal.CrcType:
			d.UpdateCRC(r.Crc)
		case wal.EntryType:
			var e raftpb.Entry
			if err := e.Unmarshal(r.Data); err != nil {
				return 0, err
			}
			last = e.Index
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return last, err
}

// panicking is a logger that says nothing and makes what etcd calls fatal a panic.
func panicking() *zap.Logger {
	return zap.New(zapcore.NewNopCore(), zap.WithFatalHook(zapcore.WriteThenPanic))
}

// guard calls f and makes errors of panics and of pages that cannot be read. Only
// f's own goroutine is guarded.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return f()
}

// watchCrashes has whatever kills this process written down for the next, but for
// what leaves no time to: SIGKILL and power cuts. It returns what etcd's fatal errors
// are to be told to.
func (d dir) watchCrashes() (died func(why string), err error) {
	f, err := os.OpenFile(d.crash(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func(why string) { fmt.Fprintln(f, why) }, nil
}

// forgetCrashes ends the watch: the database has proven itself.
func (d dir) forgetCrashes() {
	debug.SetCrashOutput(nil, debug.CrashOptions{})
	os.Truncate(d.crash(), 0)
}
