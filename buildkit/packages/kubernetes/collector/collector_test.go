package collector

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// A program that is small is not collected; one that has grown is, seldom while it
// starts, and then as its environment says.
func TestRest(t *testing.T) {
	const wanted, limit, first = 50, 1 << 30, 64 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(wanted))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit))
	debug.FreeOSMemory() // what other tests have left
	rest(first)

	before := collections()
	var kept [][]byte
	for range 32 {
		kept = append(kept, make([]byte, 1<<20))
	}
	if n := collections() - before; n != 0 {
		t.Errorf("%d collections at half of what is to be held first", n)
	}
	grow := func() {
		if kept = append(kept, make([]byte, 1<<20)); len(kept) > 256 {
			kept = kept[:64:64]
		}
	}
	eventually(t, "the limit of the environment, after the first collection", func() bool {
		grow()
		return debug.SetMemoryLimit(-1) == limit
	})
	if got := gogc(); got != percent {
		t.Errorf("after the first collection GOGC is %d, want %d", got, percent)
	}
	eventually(t, "GOGC of the environment, after the last collection of a start", func() bool {
		grow()
		return gogc() == wanted
	})
	if n := collections() - before; n < most {
		t.Errorf("the start was over after %d collections, want %d", n, most)
	}
}

func TestOver(t *testing.T) {
	now := time.Unix(0, 0)
	for _, c := range []struct {
		what  string
		start start
		over  bool
	}{
		{"before the first collection, however late", start{}, false},
		{"one soon after another", start{collections: 1, last: now.Add(-calm / 2)}, false},
		{"one after a long rest", start{collections: 1, last: now.Add(-2 * calm)}, true},
		{"one after many", start{collections: most, last: now}, true},
	} {
		if got := c.start.over(now); got != c.over {
			t.Errorf("%s: over is %v, want %v", c.what, got, c.over)
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for %s", what)
		}
	}
}

func gogc() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func collections() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}
