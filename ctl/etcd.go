package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/etcd"
)

func etcdTable(r *etcd.Status) table {
	t := table{header: []string{"SERVING", "VERSION", "SIZE", "IN-USE", "QUOTA", "REVISION", "RAFT-INDEX", "RAFT-TERM", "MEMBER", "ALARMS", "LAST-BACKUP", "MESSAGE"}}
	t.add(yes(r.Serving), r.Version, size(r.SizeBytes), size(r.InUseBytes), size(r.QuotaBytes), decimal(r.Revision),
		decimal(r.RaftIndex), decimal(r.RaftTerm), r.Member, list(r.Alarms), seconds(r.LastBackupUnixNs/int64(time.Second)), r.Message)
	return t
}

const snapshotLong = `Save the cluster's database as it is at this moment, in the form that
"etcdutl snapshot restore" reads. It holds every secret of the cluster.

It is written to FILE.part, checked against the digest at its end, and then named
FILE; a FILE that exists is not touched. - is standard output, for a program that
encrypts it: there the exit code alone tells whether it is whole.`

func saveSnapshot(c *call) error {
	path := c.args[0]
	if path == "-" {
		if f, ok := c.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return fail(exitUsage, "standard output is a terminal: want a file or a program")
		}
		return c.withMachine(func(s *session) error {
			_, err := c.snapshot(s, c.stdout)
			return err
		})
	}
	if _, err := os.Lstat(path); err == nil {
		return fail(exitRefused, "%s exists already: name another file", path)
	}
	return c.withMachine(func(s *session) error {
		n, err := c.saveSnapshot(s, path)
		if err != nil {
			return err
		}
		c.note("%s holds the database, verified: %d bytes.", path, n)
		return nil
	})
}

// saveSnapshot leaves nothing behind that is not whole.
func (c *call) saveSnapshot(s *session, path string) (int64, error) {
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, fail(exitRefused, "%s exists: another snapshot is being saved there, or one was interrupted; remove it then", part)
	}
	if err != nil {
		return 0, err
	}
	defer os.Remove(part) // of no effect once it has its final name
	n, err := c.snapshot(s, f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return n, os.Rename(part, path)
}

func (c *call) snapshot(s *session, to io.Writer) (int64, error) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	parts, err := etcd.NewClient(s).Snapshot(ctx, &etcd.SnapshotRequest{})
	if err != nil {
		return 0, err
	}
	return c.receive(parts, to)
}

// receive writes the stream's bytes and checks the digest that they end with.
func (c *call) receive(parts ipc.Receiver[*etcd.SnapshotPart], to io.Writer) (int64, error) {
	sum := sealed{hash: sha256.New()}
	var n, left int64
	var bar func(int64)
	for {
		part, err := parts.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, err
		}
		if bar == nil {
			bar = c.progress("receiving", int64(len(part.Data))+part.LeftBytes)
		}
		if _, err := to.Write(part.Data); err != nil {
			return n, err
		}
		sum.add(part.Data)
		n, left = n+int64(len(part.Data)), part.LeftBytes
		bar(int64(len(part.Data)))
	}
	switch {
	case left != 0:
		return n, fail(exitOther, "the snapshot was cut off: %d bytes came, %d are missing", n, left)
	case n <= sha256.Size || !sum.whole():
		return n, fail(exitOther, "the snapshot is damaged: its %d bytes do not match the digest at their end", n)
	}
	return n, nil
}

// sealed hashes what is followed by its own digest.
type sealed struct {
	hash hash.Hash
	tail []byte // what may be the digest
}

func (s *sealed) add(b []byte) {
	s.tail = append(s.tail, b...)
	if content := len(s.tail) - sha256.Size; content > 0 {
		s.hash.Write(s.tail[:content])
		s.tail = append(s.tail[:0], s.tail[content:]...)
	}
}

func (s *sealed) whole() bool { return bytes.Equal(s.hash.Sum(nil), s.tail) }
