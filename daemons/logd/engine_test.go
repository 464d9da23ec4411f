package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each script is commands and what they print:
//
//	segments N      a ring of two empty segments of N bytes
//	append TEXT     a line
//	put CURSOR TEXT a line with that cursor
//	begin TEXT      all of a line but its length, as a process does that is killed
//	reopen          a new ring of the same segments
//	read AFTER      the lines behind a cursor
//	tail AFTER N    at most N of them
func TestRingScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) { runScript(t, path) })
	}
}

func runScript(t *testing.T, path string) {
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r *ring
	var printed, want []string
	asked := ""
	check := func() {
		if got := strings.Join(printed, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", asked, got, strings.Join(want, "\n"))
		}
		printed, want = nil, nil
	}
	for text := range strings.Lines(string(script)) {
		text = strings.TrimSuffix(text, "\n")
		word, rest, _ := strings.Cut(text, " ")
		if word != "" && word[0] >= '0' && word[0] <= '9' {
			want = append(want, text)
			continue
		}
		if text == "" || word == "#" {
			continue
		}
		check()
		asked = text
		r, printed = command(t, r, word, rest)
	}
	check()
}

func command(t *testing.T, r *ring, word, rest string) (*ring, []string) {
	t.Helper()
	var n, after uint64
	switch word {
	case "segments":
		fmt.Sscan(rest, &n)
		return newRing(make([]byte, n), make([]byte, n)), nil
	case "append":
		r.append(0, []byte(rest))
	case "put":
		number, text, _ := strings.Cut(rest, " ")
		fmt.Sscan(number, &n)
		r.put(line{cursor: n, text: []byte(text)})
	case "begin":
		at := r.end
		r.append(0, []byte(rest))
		if at >= r.end {
			at = 0
		}
		binary.LittleEndian.PutUint32(r.segments[r.current][at:], 0)
	case "reopen":
		return newRing(r.segments[0], r.segments[1]), nil
	case "read":
		fmt.Sscan(rest, &after)
		return r, texts(r, after)
	case "tail":
		fmt.Sscan(rest, &after, &n)
		return r, texts(r, r.tail(after, uint32(n)))
	default:
		t.Fatalf("unknown command %s", word)
	}
	return r, nil
}

func texts(r *ring, after uint64) []string {
	var out []string
	for l := range r.since(after) {
		out = append(out, fmt.Sprint(l.cursor, " ", string(l.text)))
	}
	return out
}

// Files may hold anything; a ring made of them must work, whatever it finds.
func TestGarbageIsNoRing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a, b := make([]byte, 256), make([]byte, 256)
		for i := range a {
			a[i], b[i] = byte(random.UintN(3)), byte(random.UintN(256))
		}
		if random.UintN(2) == 0 {
			binary.LittleEndian.PutUint32(a, 32)
		}
		r := newRing(a, b)
		last := r.last
		r.append(5, []byte("after"))
		if got := texts(r, last); len(got) != 1 {
			t.Fatalf("a line added after garbage: %q", got)
		}
	}
}

func TestSplitter(t *testing.T) {
	long := strings.Repeat("x", maxText)
	for _, c := range []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"whole", []string{"a\nb\n"}, []string{"a", "b"}},
		{"in pieces", []string{"a", "b", "c\nd"}, []string{"abc"}},
		{"empty lines", []string{"\n\na\n"}, []string{"", "", "a"}},
		{"as long as may be", []string{long + "\nb\n"}, []string{long, "b"}},
		{"as long as may be, in pieces", []string{long, "\nb\n"}, []string{long, "b"}},
		{"too long", []string{long + "yy", "zz\nb\n"}, []string{long, "b"}},
		{"carriage return", []string{"a\r\n"}, []string{"a"}},
		{"terminal control", []string{"\x1b[2Ja\tb\n"}, []string{"\uFFFD[2Ja\tb"}},
		{"not UTF-8", []string{"a\xffb\n"}, []string{"a\uFFFDb"}},
		{"UTF-8 in pieces", []string{"\xc3", "\xa9\n"}, []string{"é"}},
	} {
		var s splitter
		var got []string
		for _, chunk := range c.chunks {
			s.feed([]byte(chunk), func(b []byte) { got = append(got, string(b)) })
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: %.60q, want %.60q", c.name, got, c.want)
		}
	}
	var s splitter
	s.feed(append(bytes.Repeat([]byte{0xff}, maxText), '\n'), func(b []byte) {
		if len(b) > maxText || len(b) < maxText-2 {
			t.Errorf("garbage became %d bytes", len(b))
		}
	})
}

func TestParseMessage(t *testing.T) {
	m, err := parseMessage([]byte("4,339,5140900,-,caller=T1;usb 1-1: new\\x0ahigh-speed device\n SUBSYSTEM=usb\n DEVICE=c189:1\n"))
	if err != nil || m.sequence != 339 || m.at != 5140900*time.Microsecond || string(m.text) != `WARN usb 1-1: new\x0ahigh-speed device` {
		t.Errorf("%+v %s, %v", m, m.text, err)
	}
	m, err = parseMessage([]byte("30,7,1,-;from user space; with semicolon\n")) // facility 3, level 6
	if err != nil || string(m.text) != "INFO from user space; with semicolon" {
		t.Errorf("%s, %v", m.text, err)
	}
	for _, bad := range []string{"", "6,1,2,-", "6;x", "a,1,2,-;x", "6,1,x,-;x"} {
		if _, err := parseMessage([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
