package main

import "time"

// A bucket is a rate limit: size tokens at first, and one more in each period, up to size.
type bucket struct {
	size  int
	every time.Duration

	used int
	at   time.Duration // when used was last right
}

// take takes a token at the time now of a clock that is never set back; false if there is none.
func (b *bucket) take(now time.Duration) bool {
	back := int64((now - b.at) / b.every)
	if int64(b.used) <= back {
		b.used, b.at = 0, now
	} else {
		b.used, b.at = b.used-int(back), b.at+time.Duration(back)*b.every
	}
	if b.used == b.size {
		return false
	}
	b.used++
	return true
}
