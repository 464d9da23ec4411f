package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/manifest"
	"github.com/dactyl-os/dactyl/ipc/probe"
)

// memory is what an idle machine of 1 GiB uses, and how much of it is the
// programs': each one's share of all pages it has in common with others counted
// by PSS.
func memory(ctx context.Context, b *bench) ([]result, error) {
	m, err := b.emulated(ctx)
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, time.Duration(b.times(60, 10))*time.Second); err != nil { // until it is idle
		return nil, err
	}
	client := probe.NewClient(m.admin)
	meminfo, err := client.ReadFile(ctx, &probe.ReadFileRequest{Path: "/proc/meminfo"})
	if err != nil {
		return nil, err
	}
	total, err1 := kibibytes(meminfo.Content, "MemTotal")
	available, err2 := kibibytes(meminfo.Content, "MemAvailable")
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("/proc/meminfo: %v, %v", err1, err2)
	}
	counted, err := production()
	if err != nil {
		return nil, err
	}
	// A daemon that has just done something maps more of its program than one that
	// rests, and each has its own hour. Who carries the question has rested again when
	// the machine looks.
	var looks []float64
	for range looksAtMemory {
		all, err := client.ListProcesses(ctx, &probe.ListProcessesRequest{RestMs: uint32(betweenLooks / time.Millisecond)})
		if err != nil {
			return nil, err
		}
		looks = append(looks, shares(all.Processes, counted))
	}
	return []result{
		atMost("memory in use, idle, of 1 GiB", float64(total-available)*1024/1e6, 128, "MB"),
		atMost("of that PSS of init and all daemons", median(looks), 50, "MB"),
	}, nil
}

const (
	looksAtMemory = 5
	// betweenLooks is not a multiple of what daemons wait between two of their jobs.
	betweenLooks = 7 * time.Second
)

// shares adds up PSS, in MB.
func shares(all []*probe.Process, counted map[string]bool) float64 {
	var pss uint64
	var each []string
	for _, p := range all {
		if counted[p.Daemon] {
			pss += p.PssBytes
			each = append(each, fmt.Sprintf("%s %.1f", p.Daemon, float64(p.PssBytes)/1e6))
		}
	}
	progress("PSS in MB: %.1f: %s", float64(pss)/1e6, strings.Join(each, ", "))
	return float64(pss) / 1e6
}

// production names PID 1 and the daemons of a production image: a test image has
// some more.
func production() (map[string]bool, error) {
	all, err := manifest.Load(".", "production")
	if err != nil {
		return nil, err
	}
	names := map[string]bool{"init": true}
	for _, m := range all {
		names[m.Name] = true
	}
	return names, nil
}

// kibibytes reads a line of /proc/meminfo.
func kibibytes(meminfo []byte, key string) (int64, error) {
	for line := range strings.Lines(string(meminfo)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s", key)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
