package main

import (
	"runtime"
	"strings"
	"testing"
)

// No file that is small enough to be read makes configd need more memory than it has
// (daemon.toml): it would be killed again and again, and a machine with static
// addresses would not be reached.
func TestNoFileNeedsMuchMemory(t *testing.T) {
	const most = 16 << 20 // half of daemon.toml's limit, for all that is allocated in between
	fill := func(before, piece, after string) string {
		return before + strings.Repeat(piece, (maxBytes-len(before)-len(after))/len(piece)) + after
	}
	for name, text := range map[string]string{
		"a list of zeros":            fill("network: [", "0,", "]"),
		"a mapping without values":   fill("{", "a,", "}"),
		"nested lists":               fill("", "[", ""),
		"nested mappings":            fill("", "{", ""),
		"a list of lists":            fill("a: [", "[],", "]"),
		"a list on lines":            fill("a:\n", "-\n", ""),
		"nested lists on lines":      fill("", "- ", ""),
		"comments":                   fill("", "#\n", ""),
		"a comment for each value":   fill("a:\n", "- 0 #\n", ""),
		"anchors":                    fill("a: [", "&a ,", "]"),
		"aliases":                    fill("b: &b c\na: [", "*b,", "]"),
		"tags":                       fill("a: [", "! ,", "]"),
		"escapes":                    fill("a: \"", `\n`, `"`),
		"empty lines in a text":      fill("a: |\n", "\n", ""),
		"documents":                  fill("", "---\n", ""),
		"directives":                 fill("", "%A\n", "---\n"),
		"flags that do not exist":    fill("kubernetes: {extraArgs: {kubelet: {", "a: b,", "}}}"),
		"keys that must be compared": fill("", "? a\n", ""),
	} {
		if len(text) > maxBytes || len(text) < maxBytes-8 {
			t.Fatalf("%s: %d bytes", name, len(text))
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, err := parse("cluster.yaml", []byte(text))
		runtime.ReadMemStats(&after)
		if all := after.TotalAlloc - before.TotalAlloc; all > most {
			t.Errorf("%s: %d KiB allocated", name, all>>10)
		} else {
			t.Logf("%s: %d KiB, %.80v", name, all>>10, err)
		}
	}
}

// A larger one is refused before it is parsed.
func TestLargeFile(t *testing.T) {
	_, err := parse("cluster.yaml", []byte("#"+strings.Repeat(" ", maxBytes)))
	if err == nil || err.Error() != "cluster.yaml: 65537 bytes: want 65536 at most" {
		t.Error(err)
	}
}
