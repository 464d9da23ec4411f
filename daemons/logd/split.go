package main

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// maxText is how long a line may be; what is beyond is cut off.
const maxText = 8 << 10

// splitter makes lines of what comes out of a pipe in any pieces.
type splitter struct {
	part []byte // a line whose end has not come
	skip bool   // the rest of a line that was too long
}

// feed calls emit for every line that b completes, without its end. emit must
// not keep it.
func (s *splitter) feed(b []byte, emit func([]byte)) {
	for len(b) > 0 {
		text, rest, whole := bytes.Cut(b, []byte("\n"))
		b = rest
		if !s.skip {
			s.part = append(s.part, text[:min(len(text), maxText-len(s.part))]...)
		}
		full := len(s.part) == maxText
		if !s.skip && (whole || full) {
			emit(clean(s.part))
			s.part = s.part[:0]
			s.skip = full
		}
		if whole {
			s.skip = false
		}
	}
}

// clean returns b with whatever is not UTF-8, and control characters other
// than the tab, replaced. Nearly always that is b itself.
func clean(b []byte) []byte {
	b = bytes.TrimSuffix(b, []byte("\r"))
	if bytes.ContainsFunc(b, bad) || !utf8.Valid(b) {
		b = bytes.Map(func(r rune) rune {
			if bad(r) {
				return utf8.RuneError
			}
			return r
		}, b)
		b = cut(b)
	}
	return b
}

// cut shortens b, which replacing may have made longer, to whole characters.
func cut(b []byte) []byte {
	if len(b) <= maxText {
		return b
	}
	n := maxText
	for !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

func bad(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) && r != '\t' }
