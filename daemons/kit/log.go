package kit

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
)

// maxLine is PIPE_BUF: up to here a pipe takes a line whole or not at all.
const maxLine = 4096

// newLogger returns a logger to fd, and has the libraries that bring a logger
// of their own use it too.
func newLogger(fd int) *slog.Logger {
	out := &output{fd: fd}
	l := slog.New(&handler{out: out})
	slog.SetDefault(l)
	logrus.SetOutput(lines{l}) // ttrpc
	logrus.SetFormatter(message{})
	return l
}

// handler writes a record as one line: level, message, key=value.
type handler struct {
	out    *output
	fixed  string // what With added, ready to be written
	prefix string // of the open groups, "a.b."
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	b := make([]byte, 0, 256)
	b = append(b, r.Level.String()...)
	b = append(b, ' ')
	b = appendClean(b, r.Message)
	b = append(b, h.fixed...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.prefix, a)
		return true
	})
	h.out.write(b)
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	b := []byte(h.fixed)
	for _, a := range attrs {
		b = appendAttr(b, h.prefix, a)
	}
	return &handler{h.out, string(b), h.prefix}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.out, h.fixed, h.prefix + name + "."}
}

func appendAttr(b []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, in := range v.Group() {
			b = appendAttr(b, prefix, in)
		}
		return b
	}
	b = append(b, ' ')
	b = append(b, prefix...)
	b = append(b, a.Key...)
	b = append(b, '=')
	s := v.String()
	if needsQuotes(s) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

func needsQuotes(s string) bool {
	return s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
		return r == ' ' || r == '"' || r == '=' || !strconv.IsPrint(r)
	})
}

// appendClean adds a message, which is shown as it is unless it would break the line.
func appendClean(b []byte, s string) []byte {
	for _, r := range s {
		if strconv.IsPrint(r) {
			b = utf8.AppendRune(b, r)
		} else {
			b = append(b, '?')
		}
	}
	return b
}

// output is the descriptor of the log.
type output struct {
	fd      int
	dropped atomic.Int64 // lines since the last report of drops
}

// write writes one line, or counts it as dropped. What was dropped before is
// told in the same write: a report alone would fit where no line does.
func (o *output) write(line []byte) {
	var b []byte
	lost := o.dropped.Swap(0)
	if lost > 0 {
		b = fmt.Appendf(b, "WARN the log was full dropped=%d\n", lost)
	}
	b = append(b, line...)
	if len(b) >= maxLine {
		b = append(b[:maxLine-4], "..."...)
	}
	if !o.try(append(b, '\n')) {
		o.dropped.Add(lost + 1)
	}
}

// try writes b if the pipe has room for all of it.
func (o *output) try(b []byte) bool {
	for {
		_, err := syscall.Write(o.fd, b)
		if err != syscall.EINTR {
			return err == nil
		}
	}
}

// lines makes a logger a writer of lines.
type lines struct{ log *slog.Logger }

func (l lines) Write(b []byte) (int, error) {
	// An answer to a call whose caller has given up is nothing to tell.
	if text := strings.TrimSpace(string(b)); !strings.Contains(text, "inactive stream") {
		l.log.Warn(text)
	}
	return len(b), nil
}

// message formats a logrus entry without its level and time.
type message struct{}

func (message) Format(e *logrus.Entry) ([]byte, error) {
	b := []byte(e.Message)
	if err, ok := e.Data[logrus.ErrorKey]; ok {
		b = fmt.Appendf(b, ": %v", err)
	}
	return b, nil
}
