package vulncheck

import (
	"fmt"
	"time"
)

// Exception is a vulnerability that does not concern us although its code is in a
// program.
type Exception struct {
	ID     string // GO-2026-0001
	Module string
	Reason string
	Until  string // the last day on which it holds: 2026-12-31
}

// Exceptions are reviewed by a person each. None is for longer than half a year.
var Exceptions = []Exception{}

// judge leaves out what has an exception that holds today, and says what is wrong with
// the exceptions.
func judge(found []Finding, exceptions []Exception, today time.Time) (left []Finding, wrong []error) {
	used := map[Exception]bool{}
	for _, f := range found {
		if e, ok := excepted(f, exceptions); ok {
			used[e] = true
			end, err := time.Parse(time.DateOnly, e.Until)
			if err == nil && today.Before(end.AddDate(0, 0, 1)) {
				continue
			}
		}
		left = append(left, f)
	}
	for _, e := range exceptions {
		switch _, err := time.Parse(time.DateOnly, e.Until); {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("exception %s: %w", e.ID, err))
		case e.Reason == "":
			wrong = append(wrong, fmt.Errorf("exception %s has no reason", e.ID))
		case !used[e]:
			wrong = append(wrong, fmt.Errorf("exception %s of %s: nothing needs it any more", e.ID, e.Module))
		}
	}
	return left, wrong
}

func excepted(f Finding, exceptions []Exception) (Exception, bool) {
	for _, e := range exceptions {
		if e.ID == f.ID && e.Module == f.Module {
			return e, true
		}
	}
	return Exception{}, false
}
