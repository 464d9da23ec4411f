package io

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/cio"
)

// These tests do with named pipes what a shim does. TestFault… fails on the source that
// is not edited.

const deadline = 20 * time.Second

// outputs are the names of the outputs that a program closes before it reads its input:
// "cat > F", "cat 2> /dev/null", "cat > F 2> /dev/null".
var outputs = [][]string{{"stdout"}, {"stderr"}, {"stdout", "stderr"}}

func TestFaultExecInputEndsWithOutput(t *testing.T) {
	for _, closed := range outputs {
		t.Run(fmt.Sprint(closed), func(t *testing.T) {
			e, err := NewFifoExecIO("exec", t.TempDir(), false, true)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			s := openPeer(t, e.Config())
			feed, opts := s.options()
			done := e.Attach(opts)
			s.wholeInput(closed, feed)
			s.exit()
			s.wait("Attach", done)
		})
	}
}

func TestFaultAttachInputEndsWithOutput(t *testing.T) {
	for _, closed := range outputs {
		t.Run(fmt.Sprint(closed), func(t *testing.T) {
			c, err := NewContainerIO("container", WithNewFIFOs(t.TempDir(), false, true))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Pipe()
			s := openPeer(t, c.Config())
			feed, opts := s.options()
			done := attach(c, opts)
			s.wholeInput(closed, feed)
			s.exit()
			s.wait("Attach", done)
		})
	}
}

// A program that never reads its input ends all the same: the shim, which has the reading
// end of the input, does not read it either.
func TestFaultUnreadExecInput(t *testing.T) {
	t.Parallel()
	e, err := NewFifoExecIO("exec", t.TempDir(), false, true)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s := openPeer(t, e.Config())
	feed, opts := s.options()
	done := e.Attach(opts)
	s.fill(feed)
	s.exit()
	s.wait("Attach", done)
}

// A container's input is closed when its task is deleted, which Close stands for.
func TestUnreadAttachInput(t *testing.T) {
	c, err := NewContainerIO("container", WithNewFIFOs(t.TempDir(), false, true))
	if err != nil {
		t.Fatal(err)
	}
	c.Pipe()
	s := openPeer(t, c.Config())
	feed, opts := s.options()
	done := attach(c, opts)
	s.fill(feed)
	s.exit()
	c.Close()
	s.wait("Attach", done)
}

// A terminal is one output: when it has ended, nothing reads the input any more.
func TestFaultUnreadTerminalInput(t *testing.T) {
	t.Parallel()
	e, err := NewFifoExecIO("exec", t.TempDir(), true, true)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	config := e.Config()
	config.Stderr = ""
	s := openPeer(t, config)
	feed, opts := s.options()
	opts.Tty, opts.Stderr = true, nil
	done := e.Attach(opts)
	s.fill(feed)
	s.exit()
	s.wait("Attach", done)
}

// attach returns a channel that is closed when c.Attach has returned.
func attach(c *ContainerIO, opts AttachOptions) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Attach(context.Background(), opts)
	}()
	return done
}

// peer is the shim and the process behind it: the other end of the named pipes.
type peer struct {
	t      *testing.T
	stdin  *os.File // reading
	held   *os.File // the writing end of stdin that a shim has
	out    map[string]*os.File
	ended  map[string]chan struct{}
	exited chan struct{}
}

func openPeer(t *testing.T, config cio.Config) *peer {
	t.Helper()
	s := &peer{t: t, out: map[string]*os.File{}, ended: map[string]chan struct{}{}, exited: make(chan struct{})}
	open := func(path string, flag int) *os.File {
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	s.stdin = open(config.Stdin, os.O_RDONLY)
	s.held = open(config.Stdin, os.O_WRONLY)
	for _, path := range []string{config.Stdout, config.Stderr} {
		if path != "" {
			name := filepath.Base(path)
			name = name[len(name)-len("stdout"):]
			s.out[name], s.ended[name] = open(path, os.O_WRONLY), make(chan struct{})
		}
	}
	return s
}

// options are those for Attach, with what writes to the input.
func (s *peer) options() (io.WriteCloser, AttachOptions) {
	in, feed := io.Pipe()
	s.t.Cleanup(func() { in.Close(); feed.Close() })
	opts := AttachOptions{
		Stdin: in, Stdout: end{s.ended["stdout"]}, Stderr: end{s.ended["stderr"]},
		StdinOnce:  true,
		CloseStdin: s.held.Close,
	}
	// The source that is not edited has no such field.
	if f := reflect.ValueOf(&opts).Elem().FieldByName("Exited"); f.IsValid() {
		f.Set(reflect.ValueOf((<-chan struct{})(s.exited)))
	}
	return feed, opts
}

// wholeInput closes outputs and then expects all of the input.
func (s *peer) wholeInput(closed []string, feed io.WriteCloser) {
	s.t.Helper()
	for _, name := range closed {
		s.out[name].Close()
		s.wait("the copy of "+name, s.ended[name])
	}
	const size = 50 << 20
	go func() {
		io.Copy(feed, io.LimitReader(endless{}, size))
		feed.Close()
	}()
	s.stdin.SetReadDeadline(time.Now().Add(deadline))
	if n, err := io.Copy(io.Discard, s.stdin); n != size || err != nil {
		s.t.Errorf("after the end of %v the program read %d bytes (%v), not %d", closed, n, err, size)
	}
}

// fill writes to the input until nothing more fits and containerd waits for a reader:
// two parts of 32 KiB are in the named pipe, one is being written to it, one is on its way.
func (s *peer) fill(feed io.Writer) {
	s.t.Helper()
	full := make(chan struct{})
	go io.Copy(feed, &parts{left: 4, last: full})
	s.wait("filling the input", full)
}

// exit ends the process: its outputs end, and containerd learns of it.
func (s *peer) exit() {
	for _, f := range s.out {
		f.Close()
	}
	close(s.exited)
}

func (s *peer) wait(what string, done <-chan struct{}) {
	s.t.Helper()
	select {
	case <-done:
	case <-time.After(deadline):
		s.t.Fatalf("%s has not ended", what)
	}
}

// end is an output that says when it was closed.
type end struct{ closed chan struct{} }

func (end) Write(p []byte) (int, error) { return len(p), nil }
func (e end) Close() error              { close(e.closed); return nil }

// endless is input without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// parts is endless input that says when its parts, and one more, were asked for.
type parts struct {
	left int
	last chan struct{}
}

func (r *parts) Read(p []byte) (int, error) {
	if r.left == 0 {
		close(r.last)
	}
	r.left--
	return len(p), nil
}
