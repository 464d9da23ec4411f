package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/dev"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/test/vm"
)

// callRate is how many calls a second are made while daemons are replaced.
const callRate = 1000

// replacedEvery is how much time is left between two replacements, so that calls
// meet every moment of one and also the time after it.
const replacedEvery = 100 * time.Millisecond

// replacements counts the calls that fail while the daemon that answers them,
// and then the gateway that carries them, is replaced again and again.
func replacements(ctx context.Context, b *bench) ([]result, error) {
	s, err := b.native(ctx)
	if err != nil {
		return nil, err
	}
	n := b.times(50, 10)
	binary, err := os.ReadFile(filepath.Join(s.root, abi.DaemonDir, "networkd"))
	if err != nil {
		return nil, err
	}
	var results []result
	for _, r := range []struct {
		what    string
		replace func(i int) error
	}{
		{"the daemon that answers", func(i int) error { return replace(ctx, s.admin, "networkd", fmt.Appendf(binary, "\n%d", i)) }},
		{"the gateway", func(int) error {
			// Past the gateway: it is not to carry the call that ends it.
			peer := s.Peer("routerd", "machine")
			defer peer.Close()
			_, err := machine.NewClient(peer).RestartDaemon(ctx, &machine.RestartDaemonRequest{Name: "routerd"})
			return err
		}},
	} {
		l := startLoad(ctx, s.admin)
		begin := time.Now()
		for i := range n {
			if err = r.replace(i); err != nil {
				break
			}
			if err = sleep(ctx, time.Until(begin.Add(time.Duration(i+1)*replacedEvery))); err != nil {
				break
			}
		}
		elapsed := time.Since(begin)
		made, lost := l.stop()
		if err != nil {
			return results, fmt.Errorf("replace %s: %w", r.what, err)
		}
		results = append(results, result{
			what:     fmt.Sprintf("calls lost over %d replacements of %s, at %d calls/s", n, r.what, callRate),
			measured: fmt.Sprintf("%d of %d", lost, made), target: "0", missed: lost > 0,
		})
		progress("%d replacements of %s in %.1f s, %.0f calls/s", n, r.what, elapsed.Seconds(), float64(made)/elapsed.Seconds())
	}
	return results, nil
}

// replace uploads a binary as the dactyl command does.
func replace(ctx context.Context, admin *vm.Conn, name string, binary []byte) error {
	upload, err := dev.NewClient(admin).ReplaceDaemon(ctx)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(binary)
	if err := upload.Send(&dev.ReplaceDaemonRequest{Name: name, Sha256: digest[:]}); err != nil {
		return err
	}
	const chunk = 1 << 20
	for len(binary) > 0 {
		n := min(len(binary), chunk)
		if err := upload.Send(&dev.ReplaceDaemonRequest{Chunk: binary[:n]}); err != nil {
			break // the answer says why
		}
		binary = binary[n:]
	}
	_, err = upload.CloseAndReceive()
	return err
}

// load makes calls at a steady pace, however long each takes.
type load struct {
	cancel     context.CancelFunc
	calls      sync.WaitGroup
	made, lost atomic.Int64
}

func startLoad(ctx context.Context, c ipc.Conn) *load {
	l := &load{}
	paced, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	l.calls.Go(func() {
		begin := time.Now()
		for paced.Err() == nil {
			for due := int64(time.Since(begin) * callRate / time.Second); l.made.Load() < due; l.made.Add(1) {
				l.calls.Go(func() {
					if err := listLinks(ctx, c); err != nil {
						if l.lost.Add(1) == 1 {
							progress("the first call that was lost: %v", err)
						}
					}
				})
			}
			time.Sleep(time.Millisecond)
		}
	})
	return l
}

// stop waits for the calls that are under way.
func (l *load) stop() (made, lost int64) {
	l.cancel()
	l.calls.Wait()
	return l.made.Load(), l.lost.Load()
}
