package main

import (
	"log/slog"
	"sync"
	"time"
)

// trickleLines a second are enough to see what strangers do, and too few to
// wash everything else out of the log.
const trickleLines = 5

// trickle lets through a few lines a second of a log that strangers write.
type trickle struct {
	mu     sync.Mutex // guards what follows
	second int64
	passed int
	held   int
}

// pass says whether one more line may be written. It tells how many were not.
func (t *trickle) pass(log *slog.Logger) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now().Unix(); now != t.second {
		if t.held > 0 {
			log.Warn("lines like the next were left out", "count", t.held)
		}
		t.second, t.passed, t.held = now, 0, 0
	}
	if t.passed == trickleLines {
		t.held++
		return false
	}
	t.passed++
	return true
}
