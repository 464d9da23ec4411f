package ipc_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/ipctest"
	"github.com/dactyl-os/dactyl/ipc/log"
)

// teller sends many lines of one size.
type teller struct {
	log.Server
	lines int
	text  string
	sent  atomic.Int64
}

func (s *teller) ReadLog(_ context.Context, _ *log.ReadLogRequest, to ipc.Sender[*log.Line]) error {
	for range s.lines {
		if err := to.Send(&log.Line{Text: s.text}); err != nil {
			return err
		}
		s.sent.Add(1)
	}
	return nil
}

// A receiver that is busy for longer than a second gets every message, and its memory
// does not fill meanwhile: the handler waits.
func TestAHandlerWaitsForASlowReceiver(t *testing.T) {
	may := map[string][]string{log.Service: {"ReadLog"}}
	for name, s := range map[string]*teller{
		"large":  {lines: 200, text: string(make([]byte, 256<<10))},
		"small":  {lines: 20_000, text: "x"},
		"empty":  {lines: 20_000},
		"medium": {lines: 20_000, text: string(make([]byte, 1000))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := log.NewClient(ipctest.Pair(t, may, func(r ipc.Registrar) { log.Register(r, s) }))
			from, err := client.ReadLog(t.Context(), &log.ReadLogRequest{})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(1500 * time.Millisecond) // what ttrpc allows, and half as much
			if n := s.sent.Load(); n == int64(s.lines) {
				t.Errorf("all %d messages were sent before the first was taken", n)
			}
			for n := 0; ; n++ {
				_, err := from.Recv()
				if err == io.EOF && n == s.lines {
					return
				}
				if err != nil {
					t.Fatalf("after %d messages: %v", n, err)
				}
			}
		})
	}
}

// A receiver that goes away while the handler waits for it holds up nobody.
func TestAHandlerDoesNotWaitForWhoIsGone(t *testing.T) {
	may := map[string][]string{log.Service: {"ReadLog"}}
	s := &teller{lines: 1 << 30, text: string(make([]byte, 256<<10))}
	client := log.NewClient(ipctest.Pair(t, may, func(r ipc.Registrar) { log.Register(r, s) })) // whose end wants all handlers to have ended
	ctx, cancel := context.WithCancel(t.Context())
	from, err := client.ReadLog(ctx, &log.ReadLogRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := from.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = from.Recv()
	}
}
