package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/config"
	"github.com/dactyl-os/dactyl/ipc/kube"
	"github.com/dactyl-os/dactyl/ipc/network"
	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/ipc/storage"
	clock "github.com/dactyl-os/dactyl/ipc/time"
	"github.com/dactyl-os/dactyl/ipc/trust"
)

// victims are the daemons that a plain call reaches through the gateway.
var victims = []struct {
	daemon string
	call   func(context.Context, ipc.Conn) error
}{
	{"configd", func(ctx context.Context, c ipc.Conn) error {
		_, err := config.NewClient(c).GetConfig(ctx, &config.GetConfigRequest{})
		return err
	}},
	{"kubed", func(ctx context.Context, c ipc.Conn) error {
		_, err := kube.NewClient(c).GetStatus(ctx, &kube.GetStatusRequest{})
		return err
	}},
	{"networkd", listLinks},
	{"storaged", func(ctx context.Context, c ipc.Conn) error {
		_, err := storage.NewClient(c).ListMounts(ctx, &storage.ListMountsRequest{})
		return err
	}},
	{"timed", func(ctx context.Context, c ipc.Conn) error {
		_, err := clock.NewClient(c).GetTime(ctx, &clock.GetTimeRequest{})
		return err
	}},
	{"trustd", func(ctx context.Context, c ipc.Conn) error {
		_, err := trust.NewClient(c).ListCertificates(ctx, &trust.ListCertificatesRequest{})
		return err
	}},
}

func listLinks(ctx context.Context, c ipc.Conn) error {
	_, err := network.NewClient(c).ListLinks(ctx, &network.ListLinksRequest{})
	return err
}

// apart is how long a daemon lives between two deaths: longer than PID 1 wants a
// process to live before its crash counts as new, so that its back-off does not
// come into it.
const apart = 2500 * time.Millisecond

// kills measures from SIGKILL until the daemon, another process by then, has
// answered a call that came through the gateway.
func kills(ctx context.Context, b *bench) ([]result, error) {
	s, err := b.native(ctx)
	if err != nil {
		return nil, err
	}
	times, err := killed(ctx, s.admin, b.times(100, 20), func(daemon string) (time.Time, error) { return killNatively(s, daemon) })
	if err != nil {
		return nil, err
	}
	results := []result{
		atMost("kill -9 → the daemon answers again, p50", ms(percentile(times, 50)), 25, "ms"),
		atMost("the same, p99", ms(percentile(times, 99)), 100, "ms"),
	}
	m, err := b.emulated(ctx)
	if err != nil {
		return results, err
	}
	times, err = killed(ctx, m.admin, b.times(60, 12), func(daemon string) (time.Time, error) {
		begin := time.Now()
		_, err := probe.NewClient(m.admin).Signal(ctx, &probe.SignalRequest{Daemon: daemon, Signal: int32(unix.SIGKILL)})
		return begin, err
	})
	if err != nil {
		return results, err
	}
	return append(results,
		compared("the same in the emulated machine, p50", ms(percentile(times, 50)), "ms"),
		compared("the same in the emulated machine, p99", ms(percentile(times, 99)), "ms")), nil
}

// killed kills daemons in turn, n in all, and returns how long each was away.
func killed(ctx context.Context, admin ipc.Conn, n int, kill func(daemon string) (time.Time, error)) ([]time.Duration, error) {
	for _, v := range victims {
		if err := v.call(ctx, admin); err != nil { // and connects
			return nil, fmt.Errorf("call %s: %w", v.daemon, err)
		}
	}
	last := map[string]time.Time{}
	var times []time.Duration
	for i := range n {
		v := victims[i%len(victims)]
		if err := sleep(ctx, time.Until(last[v.daemon].Add(apart))); err != nil {
			return nil, err
		}
		begin, err := kill(v.daemon)
		if err != nil {
			return nil, fmt.Errorf("kill %s: %w", v.daemon, err)
		}
		if err := v.call(ctx, admin); err != nil {
			return nil, fmt.Errorf("call %s after its death: %w", v.daemon, err)
		}
		last[v.daemon] = time.Now()
		times = append(times, last[v.daemon].Sub(begin))
	}
	return times, nil
}

// killNatively returns when the process is dead, so that nobody but its successor
// can answer, with the time at which it was told.
func killNatively(s *nativeSystem, daemon string) (time.Time, error) {
	pids, err := s.Processes(daemon)
	if err != nil {
		return time.Time{}, err
	}
	if len(pids) != 1 {
		return time.Time{}, fmt.Errorf("it has %d processes", len(pids))
	}
	fd, err := unix.PidfdOpen(pids[0], 0)
	if err != nil {
		return time.Time{}, err
	}
	defer unix.Close(fd)
	begin := time.Now()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return time.Time{}, err
	}
	for {
		// It can be read from when its process has ended.
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return begin, err
		}
	}
}
