package kit

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
)

// pipe returns a log and the descriptor it can be read from.
func pipe(t *testing.T) (*slog.Logger, int) {
	t.Helper()
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(p[0]); syscall.Close(p[1]) })
	return slog.New(&handler{out: &output{fd: p[1]}}), p[0]
}

// drain reads all that is in the pipe.
func drain(t *testing.T, fd int) string {
	t.Helper()
	var all bytes.Buffer
	b := make([]byte, 1<<16)
	for {
		n, err := syscall.Read(fd, b)
		if err == syscall.EAGAIN {
			return all.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b[:n])
	}
}

func TestARecordIsOneLine(t *testing.T) {
	log, r := pipe(t)
	log.Info("lease", "address", "10.0.2.15/24", "for_s", 3600)
	log.Error("end", "err", errors.New("open /dev/x: no such\ndevice"))
	log.Warn("two\nlines", "empty", "", "bytes", "\xff")
	log.With("link", "eth0").WithGroup("dhcp").Info("sent", slog.Group("to", "port", 67), "try", 2)
	log.Debug("not for anybody")
	want := `INFO lease address=10.0.2.15/24 for_s=3600
ERROR end err="open /dev/x: no such\ndevice"
WARN two?lines empty="" bytes="\xff"
INFO sent link=eth0 dhcp.to.port=67 dhcp.try=2
`
	if got := drain(t, r); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestALongRecordIsCut(t *testing.T) {
	log, r := pipe(t)
	log.Info(strings.Repeat("x", 3*maxLine))
	if got := drain(t, r); len(got) != maxLine || !strings.HasSuffix(got, "x...\n") {
		t.Errorf("%d bytes, ends in %q", len(got), got[len(got)-8:])
	}
}

// A full pipe must cost lines, never time, and the loss must be told.
func TestAFullPipeDropsAndTells(t *testing.T) {
	log, r := pipe(t)
	const sent = 1000
	line := strings.Repeat("x", 1000)
	for range sent {
		log.Info(line)
	}
	first := drain(t, r)
	kept := strings.Count(first, "\n")
	if kept == 0 || kept == sent {
		t.Fatalf("%d of %d lines kept: the pipe was not filled", kept, sent)
	}
	if strings.Count(first, "INFO "+line+"\n") != kept {
		t.Error("a line was torn")
	}
	log.Info("again")
	if got, want := drain(t, r), fmt.Sprintf("WARN the log was full dropped=%d\nINFO again\n", sent-kept); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
