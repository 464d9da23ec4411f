package main

import (
	"log/slog"
	"sync"
	"time"
)

// linesPerSecond are enough to see what anonymous clients do, and too few to push
// everything else out of the log.
const linesPerSecond = 5

// rateLimit limits the log lines that anonymous clients cause. The zero value is ready.
type rateLimit struct {
	mu      sync.Mutex // guards what follows
	second  int64
	passed  int
	dropped int
}

// pass reports whether one more line may be written, and logs how many were dropped.
func (r *rateLimit) pass(log *slog.Logger) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now().Unix(); now != r.second {
		if r.dropped > 0 {
			log.Warn("lines like the next were dropped", "count", r.dropped)
		}
		r.second, r.passed, r.dropped = now, 0, 0
	}
	if r.passed == linesPerSecond {
		r.dropped++
		return false
	}
	r.passed++
	return true
}
