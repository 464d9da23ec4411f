package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/log"
)

const (
	// resumeEvery is how long to wait before following is tried again.
	resumeEvery = 500 * time.Millisecond
	// resumeFor is how long a machine may be away before following ends: longer
	// than a reboot takes.
	resumeFor = 3 * time.Minute
)

func logFlags(f *pflag.FlagSet) {
	f.BoolP("follow", "f", false, "wait for more, also over restarts")
	f.Uint32("tail", 0, "only this `many` of the lines that are kept (default all)")
}

// source opens one log from a position on.
type source func(ctx context.Context, c log.Client, at position) (ipc.Receiver[*log.Line], error)

// position is where reading begins, as the log service wants it.
type position struct {
	follow bool
	after  uint64
	tail   uint32
}

func showLog(c *call) error {
	return c.readLog(func(ctx context.Context, l log.Client, at position) (ipc.Receiver[*log.Line], error) {
		return l.ReadLog(ctx, &log.ReadLogRequest{Daemon: c.args[0], Follow: at.follow, After: at.after, Tail: at.tail})
	})
}

func showKernelLog(c *call) error {
	return c.readLog(func(ctx context.Context, l log.Client, at position) (ipc.Receiver[*log.Line], error) {
		return l.ReadKernel(ctx, &log.ReadKernelRequest{Follow: at.follow, After: at.after, Tail: at.tail})
	})
}

// readLog prints a log. Following, it goes on where it was whenever the stream
// breaks, and from the start once the machine has booted anew.
func (c *call) readLog(open source) error {
	tail, err := c.flags.GetUint32("tail")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	at := position{follow: c.isSet("follow"), tail: tail}
	return c.withMachine(func(s *session) error {
		if !at.follow {
			return c.readLog1(s, open, &at)
		}
		return c.followLog(s, open, &at)
	})
}

func (c *call) followLog(s *session, open source, at *position) error {
	boot, err := s.version1(c.ctx)
	if err != nil {
		return err
	}
	lost := time.Time{} // since when nothing has come; zero while it comes
	for {
		before := at.after
		err := c.readLog1(s, open, at)
		switch {
		case c.ctx.Err() != nil:
			return nil // Ctrl-C is how following ends
		case err != nil && codeOf(err) != exitConnection:
			return err
		case at.after != before || lost.IsZero():
			lost = time.Now()
		case time.Since(lost) > resumeFor:
			return err
		}
		select {
		case <-c.ctx.Done():
			return nil
		case <-time.After(resumeEvery):
		}
		if now, err := s.version1(c.ctx); err == nil && now.BootId != boot.BootId {
			c.note("%s has booted anew:", s.machine.Name)
			boot, at.after, at.tail = now, 0, 0
		}
	}
}

// readLog1 prints lines until the stream ends, and moves at behind the last.
func (c *call) readLog1(s *session, open source, at *position) error {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	lines, err := open(ctx, log.NewClient(s), *at)
	if err != nil {
		return err
	}
	for {
		line, err := lines.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at.after, at.tail = line.Cursor, 0
		if err := c.showLine(line); err != nil {
			return err
		}
	}
}

func (c *call) showLine(l *log.Line) error {
	if c.output != asTable {
		b, err := toJSON(l)
		if err != nil {
			return err
		}
		if c.output == asJSON {
			_, err = fmt.Fprintf(c.stdout, "%s\n", b)
			return err
		}
		fmt.Fprintln(c.stdout, "---")
		return writeYAML(c.stdout, b)
	}
	if l.Dropped > 0 {
		fmt.Fprintf(c.stdout, "(%d lines lost)\n", l.Dropped)
	}
	_, err := fmt.Fprintln(c.stdout, time.Unix(0, l.TimeUnixNs).UTC().Format("2006-01-02T15:04:05.000Z"), printableLine(l.Text))
	return err
}
