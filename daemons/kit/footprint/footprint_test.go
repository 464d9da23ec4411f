package footprint

import (
	"fmt"
	"os"
	"runtime"
	"strings"
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
	for range 64 {
		sink = make([]byte, 64<<10)
	}
	sink = nil
	before := collections()
	k.Shrink()
	if n := collections() - before; n != 1 {
		t.Errorf("%d collections after a burst, want 1", n)
	}
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapInuse > 2<<20 {
		t.Errorf("%d bytes of the heap are in use after the burst of 4 MiB", m.HeapInuse)
	}
	k.Shrink()
	if n := collections() - before; n != 1 {
		t.Errorf("%d collections, want no other after nothing", n)
	}
}

// sink keeps what the test allocates from the stack.
var sink []byte
