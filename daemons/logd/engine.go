package main

import (
	"encoding/binary"
	"iter"
)

// ring keeps the newest lines of one source in two segments, which are used in
// turn: when one is full the other is emptied. So between half and all of the
// space holds lines, and nothing ever moves. Segments may be mapped files: a ring
// made of those of a process that was killed goes on where that one ended.
//
// A record is its length in all (uint32, 0 = none yet), the length of its text
// (uint32), cursor (uint64), time (int64), the text, and up to seven bytes to make
// the next one aligned. The length is written last.
type ring struct {
	segments [2][]byte
	current  int    // the segment that is written
	end      int    // where in it the next record goes
	last     uint64 // cursor of the newest line, 0 = none yet
}

const recordHeader = 24

// line is one line of a log. text belongs to the ring until it is copied.
type line struct {
	cursor uint64
	time   int64 // Unix nanoseconds
	text   []byte
}

// newRing returns the ring that a and b hold. They have the same size and are
// either all zero or were a ring's before.
func newRing(a, b []byte) *ring {
	r := &ring{segments: [2][]byte{a, b}}
	for i, s := range r.segments {
		for l, next := range records(s) {
			if l.cursor > r.last {
				r.current, r.end, r.last = i, next, l.cursor
			}
		}
	}
	// What a process that was killed had begun; behind that nothing was written.
	begun := r.segments[r.current][r.end:]
	clear(begun[:min(len(begun), recordHeader+maxText+8)])
	return r
}

// append adds a line with the next cursor.
func (r *ring) append(time int64, text []byte) { r.put(line{r.last + 1, time, text}) }

// put adds a line whose cursor is greater than all before. A line that no
// segment holds is cut.
func (r *ring) put(l line) {
	segment := r.segments[r.current]
	l.text = l.text[:min(len(l.text), len(segment)-recordHeader)]
	size := (recordHeader + len(l.text) + 7) &^ 7
	if size > len(segment)-r.end {
		r.current, r.end = 1-r.current, 0
		segment = r.segments[r.current]
		clear(segment)
	}
	b := segment[r.end : r.end+size]
	binary.LittleEndian.PutUint32(b[4:], uint32(len(l.text)))
	binary.LittleEndian.PutUint64(b[8:], l.cursor)
	binary.LittleEndian.PutUint64(b[16:], uint64(l.time))
	copy(b[recordHeader:], l.text)
	binary.LittleEndian.PutUint32(b, uint32(size))
	r.end += size
	r.last = l.cursor
}

// since yields the kept lines with a cursor greater than after, oldest first.
func (r *ring) since(after uint64) iter.Seq[line] {
	return func(yield func(line) bool) {
		for _, s := range [][]byte{r.segments[1-r.current], r.segments[r.current]} {
			for l := range records(s) {
				if l.cursor > after && !yield(l) {
					return
				}
			}
		}
	}
}

// tail returns the cursor behind which at most n of the lines after the cursor
// after are kept.
func (r *ring) tail(after uint64, n uint32) uint64 {
	var kept uint32
	for range r.since(after) {
		kept++
	}
	for l := range r.since(after) {
		if kept <= n {
			break
		}
		kept--
		after = l.cursor
	}
	return after
}

// records yields the lines of a segment, each with the offset behind it. It
// believes nothing: a record that cannot be one ends the segment.
func records(s []byte) iter.Seq2[line, int] {
	return func(yield func(line, int) bool) {
		var last uint64
		for at := 0; at+recordHeader <= len(s); {
			size := int(binary.LittleEndian.Uint32(s[at:]))
			length := int(binary.LittleEndian.Uint32(s[at+4:]))
			if size > len(s)-at || size%8 != 0 || length > size-recordHeader {
				return
			}
			l := line{
				cursor: binary.LittleEndian.Uint64(s[at+8:]),
				time:   int64(binary.LittleEndian.Uint64(s[at+16:])),
				text:   s[at+recordHeader : at+recordHeader+length],
			}
			if size < recordHeader || l.cursor <= last {
				return
			}
			last = l.cursor
			at += size
			if !yield(l, at) {
				return
			}
		}
	}
}
