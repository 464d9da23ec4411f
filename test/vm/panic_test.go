package vm

import (
	"os"
	"strings"
	"testing"
)

// What a kernel says when it dies, and whether that can be the kernel's fault.
func TestDied(t *testing.T) {
	text, err := os.ReadFile("testdata/died.txt")
	if err != nil {
		t.Fatal(err)
	}
	stories := 0
	for _, story := range strings.Split(string(text), "\n\n") {
		var lines []Line
		want := ""
		for l := range strings.Lines(story) {
			l = strings.TrimRight(l, "\n")
			switch w, is := strings.CutPrefix(l, "-> "); {
			case is:
				want = w
			case !strings.HasPrefix(l, "# "):
				lines = append(lines, Line{Text: l})
			}
		}
		got := "lived"
		if said, impossible := died(lines); impossible {
			got = "the emulator's"
		} else if said != "" {
			got = "the kernel's"
		}
		if got != want {
			t.Errorf("%s\nis %s", story, got)
		}
		stories++
	}
	if stories < 4 {
		t.Errorf("%d stories", stories)
	}
}
