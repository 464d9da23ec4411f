package footprint

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
)

func TestPagesOfTheProgramComeBack(t *testing.T) {
	segments := readOnlySegments()
	if len(segments) == 0 {
		t.Fatal("the program's own segments were not found")
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		var found bool
		for line := range strings.Lines(string(maps)) {
			var start, end uintptr
			var mode string
			fmt.Sscanf(line, "%x-%x %s", &start, &end, &mode)
			if start <= s.start && s.start+s.size <= end {
				found = mode[1] == '-'
			}
		}
		if !found {
			t.Errorf("%x+%x is not within one mapping that is never written", s.start, s.size)
		}
	}
	DropProgram() // and all that follows runs from pages that have to come back
}

// The garbage of a burst is gone after the first rest that is worth it, and a program
// that allocates next to nothing is left alone.
func TestShrink(t *testing.T) {
	var k Keeper
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	k.Shrink()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range 64 {
		sink = make([]byte, 64<<10)
		buffer := sink
		buffers.Put(&buffer)
	}
	sink = nil
	before := collections()
	k.Shrink()
	after := collections()
	if after == before {
		t.Error("no collection after a burst")
	}
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapInuse > 2<<20 {
		t.Errorf("%d bytes of the heap are in use after the burst of 4 MiB", m.HeapInuse)
	}
	k.Shrink()
	if n := collections() - after; n != 0 {
		t.Errorf("%d collections, want no other after nothing", n)
	}
}

// sink keeps what the test allocates from the stack.
var sink []byte

// buffers keep some of it as gRPC's do.
var buffers sync.Pool
