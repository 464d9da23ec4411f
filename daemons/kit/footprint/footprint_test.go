package footprint

import (
	"fmt"
	"os"
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
