package progress

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clock is a time that goes by when it is told to.
type clock struct{ time.Time }

func (c *clock) now() time.Time        { return c.Time }
func (c *clock) pass(d time.Duration)  { c.Time = c.Add(d) }
func narrow(columns int) func() int    { return func() int { return columns } }
func logFile(t *testing.T) string      { return filepath.Join(t.TempDir(), "out", "build.log") }
func write(r *Report, lines ...string) { fmt.Fprint(r, strings.Join(lines, "\n")+"\n") }

func testReport(t *testing.T, file string, terminal bool, columns int) (*Report, *strings.Builder, *clock) {
	t.Helper()
	var out strings.Builder
	c := &clock{time.Unix(0, 0)}
	r, err := open(&out, file, terminal, narrow(columns), c.now)
	if err != nil {
		t.Fatal(err)
	}
	return r, &out, c
}

// On a terminal there is one line. The second time it says how far a step is.
func TestTerminal(t *testing.T) {
	file := logFile(t)
	r, out, c := testReport(t, file, true, 60)
	write(r, "build: the kernel", "CC a.c", "CC b.c")
	c.pass(65 * time.Second)
	write(r, "CC c.c", "LD vmlinux\x1b[2J")
	if err := r.Close(nil); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "\n") || strings.Count(got, "\x1b[2J") != 0 {
		t.Errorf("more than one line: %q", got)
	}
	if want := "\r\x1b[Kthe kernel, 3 lines, 1:05  CC c.c"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in %q", want, out)
	}
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Errorf("the line is left behind: %q", out)
	}

	r, out, c = testReport(t, file, true, 30)
	write(r, "build: the kernel")
	c.pass(time.Minute)
	write(r, "CC a.c with a long name that does not fit")
	if want := "\r\x1b[Kthe kernel, 25 %, 1:00  CC a."; !strings.HasSuffix(out.String(), want) {
		t.Errorf("%q does not end with %q", out, want)
	}
}

// More lines than the last time are no more than 99 %.
func TestMoreThanLastTime(t *testing.T) {
	file := logFile(t)
	r, _, _ := testReport(t, file, false, 80)
	write(r, "build runc", "a")
	if err := r.Close(nil); err != nil {
		t.Fatal(err)
	}
	r, out, c := testReport(t, file, false, 80)
	write(r, "build runc", "a", "b")
	c.pass(remind)
	write(r, "c")
	if want := "build: runc\nbuild: runc, 99 %, 0:30\n"; out.String() != want {
		t.Errorf("%q, want %q", out, want)
	}
}

// Without a terminal a step is one line, and one for each half minute.
func TestNoTerminal(t *testing.T) {
	r, out, c := testReport(t, logFile(t), false, 80)
	for _, step := range []string{"build: the kernel", "build kubernetes"} {
		write(r, step)
		for range 61 {
			write(r, "CC a.c")
			c.pass(time.Second)
		}
	}
	want := "build: the kernel\nbuild: the kernel, 31 lines, 0:30\nbuild: the kernel, 61 lines, 1:00\n" +
		"build: kubernetes\nbuild: kubernetes, 31 lines, 0:30\nbuild: kubernetes, 61 lines, 1:00\n"
	if out.String() != want {
		t.Errorf("%s\nwant:\n%s", out, want)
	}
}

// The file has every byte, lines in pieces included, and a failure names it.
func TestRawOutput(t *testing.T) {
	file := logFile(t)
	r, _, _ := testReport(t, file, true, 80)
	const text = "build: x\nhalf a line, and the rest\nan end without its line"
	for i := range text {
		fmt.Fprint(r, text[i:i+1])
	}
	failure := errors.New("compile x: exit status 1")
	err := r.Close(failure)
	if !errors.Is(err, failure) || !strings.Contains(err.Error(), file) {
		t.Errorf("%v does not name %s", err, file)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != text {
		t.Errorf("the file has %q (%v)", got, err)
	}
	if _, err := os.Stat(file + ".steps"); err == nil {
		t.Error("a build that failed says how many lines a step has")
	}
}
