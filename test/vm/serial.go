package vm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Serial is everything the machine has written to its serial line so far.
type Serial struct {
	mu      sync.Mutex // guards what follows
	changed sync.Cond  // on every new line and at the end
	lines   []Line
	ended   bool
	echo    io.Writer
}

// Line is one line with the time it was seen.
type Line struct {
	Time time.Time
	Text string
}

func newSerial() *Serial {
	s := &Serial{}
	s.changed.L = &s.mu
	return s
}

// escape sequences of terminals: the firmware's and the boot loader's.
var escape = regexp.MustCompile(`\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()].|[\x00-\x08\x0b-\x1f]`)

func (s *Serial) read(r io.Reader) {
	b := bufio.NewReader(r)
	for {
		text, err := b.ReadString('\n')
		if text = escape.ReplaceAllString(strings.TrimRight(text, "\r\n"), ""); text != "" {
			s.add(Line{time.Now(), text})
		}
		if err != nil {
			return
		}
	}
}

func (s *Serial) add(l Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, l)
	if s.echo != nil {
		fmt.Fprintln(s.echo, l.Text)
	}
	s.changed.Broadcast()
}

func (s *Serial) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.changed.Broadcast()
}

// Echo also writes every line to w from now on.
func (s *Serial) Echo(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.echo = w
}

// Mark returns a place in the output for WaitFor: only later lines count.
func (s *Serial) Mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lines)
}

// WaitFor waits for a line after mark that matches pattern, and returns its
// submatches. It fails with the last lines when ctx ends or the machine does.
func (s *Serial) WaitFor(ctx context.Context, mark int, pattern string) ([]string, error) {
	p := regexp.MustCompile(pattern)
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for next := mark; ; {
		for ; next < len(s.lines); next++ {
			if m := p.FindStringSubmatch(s.lines[next].Text); m != nil {
				return m, nil
			}
		}
		if s.ended {
			return nil, fmt.Errorf("wait for %q on the serial line: %w:\n%s", pattern, ErrEnded, s.lastLocked(30))
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for %q on the serial line: %w; it last said:\n%s", pattern, ctx.Err(), s.lastLocked(30))
		}
		s.changed.Wait()
	}
}

// Lines returns all lines so far.
func (s *Serial) Lines() []Line {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Line(nil), s.lines...)
}

// Last returns the last n lines as text.
func (s *Serial) Last(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastLocked(n)
}

func (s *Serial) lastLocked(n int) string {
	var b strings.Builder
	for _, l := range s.lines[max(0, len(s.lines)-n):] {
		b.WriteString("  " + l.Text + "\n")
	}
	return b.String()
}
