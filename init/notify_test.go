package main

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// counting counts reads.
type counting struct {
	io.Reader
	reads int
}

func (c *counting) Read(p []byte) (int, error) {
	c.reads++
	return c.Reader.Read(p)
}

// A process decides what comes by its notify pipe. However much that is, and in whatever
// pieces, PID 1 reads it a few times a second, and has as many events from it.
func TestNotifyPipeDoesNotKeepPID1Busy(t *testing.T) {
	for name, text := range map[string][]byte{
		"newlines":        bytes.Repeat([]byte("\n"), 16<<10),
		"no newline":      bytes.Repeat([]byte("x"), 16<<10),
		"single bytes":    []byte("x"),
		"single newlines": []byte("\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			flood := make(chan struct{})
			go func() {
				defer close(flood)
				for {
					if _, err := write.Write(text); err != nil {
						return
					}
				}
			}()
			m := &machine{jobs: make(chan func())}
			pipe := &counting{Reader: read}
			ended := make(chan struct{})
			start := time.Now()
			go func() {
				defer close(ended)
				m.follow(&child{daemon: &daemon{Daemon: abi.Daemon{Name: "flood"}}}, pipe)
			}()
			events, enough := 0, time.After(10*signThrottle)
			for running := true; running; {
				select {
				case <-m.jobs:
					events++
				case <-enough:
					enough = nil
					write.Close() // it closes its pipe: there is nothing more to hear
				case <-ended:
					running = false
				}
			}
			<-flood
			most := int(time.Since(start)/signThrottle) + 2
			if pipe.reads > most || events > most {
				t.Errorf("%d reads and %d events in %v, want at most %d", pipe.reads, events, time.Since(start), most)
			}
			t.Logf("%d reads, %d events", pipe.reads, events)
		})
	}
}
