package progress

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	// redraw is how often a terminal's line changes at most: faster cannot be read.
	redraw = 100 * time.Millisecond
	// remind is how often a step is mentioned where there is no terminal.
	remind = 30 * time.Second
)

// Report is where a build writes to. It may be used by several goroutines.
type Report struct {
	raw      *os.File
	out      io.Writer
	terminal bool
	width    func() int
	now      func() time.Time
	stop     chan struct{}
	ended    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	step    string
	begin   time.Time // of the step
	lines   int       // of the step
	partial []byte    // a line without its end
	last    string
	next    time.Time      // when to draw or print again
	drawn   bool           // there is a line on the terminal
	before  map[string]int // lines of each step, when it last ended
}

// Open returns a report that shows progress on out and writes everything to the file.
func Open(out *os.File, file string) (*Report, error) {
	fd := int(out.Fd())
	width := func() int {
		if w, _, err := term.GetSize(fd); err == nil && w > 0 {
			return w
		}
		return 80
	}
	r, err := open(out, file, term.IsTerminal(fd), width, time.Now)
	if err == nil && r.terminal {
		r.ended.Go(r.tick)
	}
	return r, err
}

func open(out io.Writer, file string, terminal bool, width func() int, now func() time.Time) (*Report, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	raw, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	r := &Report{raw: raw, out: out, terminal: terminal, width: width, now: now, stop: make(chan struct{}), before: map[string]int{}}
	// Without the counts of the last time there is no percentage, and that is all.
	if text, err := os.ReadFile(r.counts()); err == nil {
		_ = json.Unmarshal(text, &r.before)
	}
	r.begin = now()
	return r, nil
}

// counts is the file with the number of lines that each step had.
func (r *Report) counts() string { return r.raw.Name() + ".steps" }

// Path is the file with the whole output.
func (r *Report) Path() string { return r.raw.Name() }

// tick draws the time that goes by while nothing is written.
func (r *Report) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-t.C:
			r.mu.Lock()
			r.drawLocked()
			r.mu.Unlock()
		}
	}
}

// Write takes output of the build.
func (r *Report) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.raw.Write(p)
	r.partial = append(r.partial, p[:n]...)
	for {
		line, rest, found := bytes.Cut(r.partial, []byte("\n"))
		if !found {
			return n, err
		}
		r.lineLocked(string(line))
		r.partial = rest
	}
}

func (r *Report) lineLocked(line string) {
	if step, ok := stepOf(line); ok {
		r.endStepLocked()
		r.step, r.begin, r.lines, r.last = step, r.now(), 0, ""
		r.next = r.begin.Add(remind)
		if r.terminal {
			r.drawLocked()
		} else {
			fmt.Fprintf(r.out, "build: %s\n", step)
		}
		return
	}
	r.lines++
	r.last = line
	if r.now().Before(r.next) {
		return
	}
	if r.terminal {
		r.drawLocked()
		return
	}
	r.next = r.now().Add(remind)
	fmt.Fprintf(r.out, "build: %s\n", r.stateLocked())
}

// stepOf returns the step that a line begins.
func stepOf(line string) (string, bool) {
	for _, prefix := range []string{"build: ", "build "} {
		if step, ok := strings.CutPrefix(line, prefix); ok {
			return step, true
		}
	}
	return "", false
}

// endStepLocked notes how many lines a step had that has ended.
func (r *Report) endStepLocked() {
	if r.lines > 0 {
		r.before[r.step] = r.lines
	}
}

// stateLocked is the step, how far it is and how long it takes.
func (r *Report) stateLocked() string {
	far := fmt.Sprintf("%d lines", r.lines)
	if all := r.before[r.step]; all > 0 {
		far = fmt.Sprintf("%d %%", min(99, r.lines*100/all))
	}
	took := r.now().Sub(r.begin).Round(time.Second)
	return fmt.Sprintf("%s, %s, %d:%02d", r.step, far, int(took.Minutes()), int(took.Seconds())%60)
}

// drawLocked draws the line again; it fits into the terminal.
func (r *Report) drawLocked() {
	r.next = r.now().Add(redraw)
	line := printable(strings.TrimRight(r.stateLocked()+"  "+r.last, " "))
	if most := r.width() - 1; len(line) > most {
		line = line[:max(0, most)]
	}
	fmt.Fprintf(r.out, "\r\x1b[K%s", string(line))
	r.drawn = true
}

// printable replaces what would move the cursor.
func printable(s string) []rune {
	runes := []rune(s)
	for i, c := range runes {
		if c < ' ' || c == 0x7f {
			runes[i] = ' '
		}
	}
	return runes
}

// Close ends the report, and returns err with the name of the file when the build has
// failed with err.
func (r *Report) Close(err error) error {
	close(r.stop)
	r.ended.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drawn {
		fmt.Fprint(r.out, "\r\x1b[K")
	}
	if err != nil {
		r.raw.Close()
		return fmt.Errorf("%w\nthe whole output is in %s", err, r.Path())
	}
	r.endStepLocked()
	text, err := json.Marshal(r.before)
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.counts(), text, 0o644); err != nil {
		return err
	}
	return r.raw.Close()
}
