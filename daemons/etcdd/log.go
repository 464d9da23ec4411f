package main

import (
	"context"
	"log/slog"
	"os"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// newLogger returns etcd's logger, which writes warnings and worse to ours: what
// etcd tells of its everyday life would push everybody else's lines out of the ring.
// What etcd calls fatal ends the process, after died was told why.
func newLogger(log *slog.Logger, died func(why string)) *zap.Logger {
	core := &zapCore{log: log, died: died}
	return zap.New(core, zap.WithFatalHook(fatal{}), zap.WithPanicHook(zapcore.WriteThenPanic))
}

// zapCore is a zapcore.Core on top of slog.
type zapCore struct {
	log  *slog.Logger
	died func(why string)
	with []zapcore.Field
}

func (c *zapCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{log: c.log, died: c.died, with: append(c.with[:len(c.with):len(c.with)], fields...)}
}

// known are warnings that a daemon's root and a new database bring about, by their
// first words, and that are none.
var known = []string{
	"failed to get file descriptor usage", // there is no /proc
	"Failed to detect schema version",     // a database that is new has none, until
	"failed to update storage version",    // etcd tries again half a second later
}

func (c *zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if slices.Contains(known, e.Message) {
		return ce
	}
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	attrs := append(attrsOf(c.with), attrsOf(fields)...)
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	c.log.LogAttrs(context.Background(), level, "etcd: "+e.Message, attrs...)
	if e.Level >= zapcore.DPanicLevel {
		why := e.Message
		for _, a := range attrs {
			why += " " + a.String()
		}
		c.died(why)
	}
	return nil
}

func (c *zapCore) Sync() error { return nil }

func attrsOf(fields []zapcore.Field) []slog.Attr {
	var attrs []slog.Attr
	for _, f := range fields {
		m := zapcore.NewMapObjectEncoder()
		f.AddTo(m)
		for key, value := range m.Fields {
			attrs = append(attrs, slog.Any(key, value))
		}
	}
	return attrs
}

// fatal ends the process as one that is worth starting again.
type fatal struct{}

func (fatal) OnWrite(*zapcore.CheckedEntry, []zapcore.Field) { os.Exit(abi.ExitTemporary) }
