package main

import (
	"testing"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

func TestConntrackLimitFollowsMemory(t *testing.T) {
	for memory, want := range map[uint64]uint64{512 << 20: 131072, 1 << 30: 131072, 4 << 30: 524288, 64 << 30: 1 << 20} {
		if got := conntrackLimit(memory); got != want {
			t.Errorf("%d MiB: %d, want %d", memory>>20, got, want)
		}
	}
}

func TestDomainLeavesThreadsToDaemons(t *testing.T) {
	var s abi.System
	for range 10 {
		s.Daemons = append(s.Daemons, abi.Daemon{Limits: abi.Limits{PIDs: 100}})
	}
	s.Daemons = append(s.Daemons, abi.Daemon{Domain: "pods", Limits: abi.Limits{PIDs: 1024}})
	for all, want := range map[int64]int64{7600: 7600 - 1000 - ownThreads, 32000: 32000 - 1000 - ownThreads, 2000: 1000} {
		if got := domainThreads(&s, all); got != want {
			t.Errorf("of %d threads a domain has %d, want %d", all, got, want)
		}
	}
}
