package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// segmentBytes is the size of each of a source's two files.
const segmentBytes = 128 << 10

// lockPoll is how long to wait before asking for the lock again; a replacement
// is told to end within a few milliseconds of the new process being ready.
const lockPoll = 5 * time.Millisecond

// store is the folder of the rings' files.
type store struct{ dir string }

// lock waits until no other process holds the files, or ctx ends.
func (st store) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(st.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}

// segments maps the two files of a source, which it makes if there are none.
func (st store) segments(name string) (a, b []byte, err error) {
	if a, err = mapFile(filepath.Join(st.dir, name+".0")); err != nil {
		return nil, nil, err
	}
	if b, err = mapFile(filepath.Join(st.dir, name+".1")); err != nil {
		return nil, nil, err
	}
	return a, b, nil
}

// mapFile maps a file of segmentBytes. All its blocks are there before: a
// write to a hole of a full tmpfs would kill the process.
func mapFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, segmentBytes); err != nil {
		return nil, fmt.Errorf("allocate %s: %w", path, err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, segmentBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return b, nil
}

// unmapPages has the pages of a mapped file no longer count as the process's:
// looking through it once mapped it nearly whole. The file keeps them.
func unmapPages(b []byte) { unix.Madvise(b, unix.MADV_DONTNEED) }

// sharedBuffer is one buffer for all readers, who need it only while there is
// something to read.
type sharedBuffer struct {
	mu sync.Mutex // guards b
	b  []byte
}

// readAll calls take for whatever comes out of f until its end or ctx's. take
// must not keep it. Messages that the kernel overwrote before they were read show
// as a gap in their numbers.
func readAll(ctx context.Context, f *os.File, buf *sharedBuffer, take func([]byte)) error {
	defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Now()) })()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var failed error
		err := conn.Read(func(fd uintptr) (done bool) {
			buf.mu.Lock()
			defer buf.mu.Unlock()
			n, err := unix.Read(int(fd), buf.b)
			switch {
			case err == unix.EAGAIN:
				return false
			case err == unix.EINTR || err == unix.EPIPE: // EPIPE: of /dev/kmsg, overwritten
			case err != nil:
				failed = err
			case n == 0:
				failed = io.EOF
			default:
				take(buf.b[:n])
			}
			return true
		})
		switch {
		case failed == io.EOF || ctx.Err() != nil:
			return nil
		case errors.Join(err, failed) != nil:
			return errors.Join(err, failed)
		}
	}
}

// bootTime is when the machine started, in Unix nanoseconds of the clock as it
// is set now.
func bootTime() int64 {
	var now, up unix.Timespec
	unix.ClockGettime(unix.CLOCK_REALTIME, &now)
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &up)
	return now.Nano() - up.Nano()
}
