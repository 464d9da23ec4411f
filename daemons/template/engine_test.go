package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A script is what the kernel measures, in percent, and what is then said.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range paths {
		script, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s := enough
		for line := range strings.Lines(string(script)) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			number, want, _ := strings.Cut(line, "->")
			percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			var news string
			if s, news = step(s, percent); news != strings.TrimSpace(want) {
				t.Errorf("%s: at %v: %q, want %q", path, percent, news, strings.TrimSpace(want))
			}
		}
	}
}

func TestParsePressure(t *testing.T) {
	got, err := parsePressure("some avg10=1.25 avg60=0.60 avg300=0.10 total=12345\nfull avg10=0.50 avg60=0 avg300=0 total=1\n")
	if err != nil || got != 1.25 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "full avg10=1", "some avg10=", "some avg60=1"} {
		if _, err := parsePressure(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
