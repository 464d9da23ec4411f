// Package collector lets Go's garbage collector rest while a component starts.
//
// What GOGC says in a component's environment is meant for a component that runs: its
// heap is to stay small. While it starts, its heap grows from nothing to a hundred
// megabytes, and being collected whenever it has grown by a third it is walked some
// forty times, each time to find that nearly all of it is in use. That is a fourth of
// what kube-apiserver's start takes. So there is no collection until the program holds
// about what it will hold anyhow, then some whenever the heap has doubled, and then
// GOGC and GOMEMLIMIT take effect as they stand in the environment.
//
// It acts when it is imported, before the packages of Kubernetes initialise themselves:
// Go takes packages that depend on little in the order of their paths.
package collector

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"
)

// first is how much a component holds, in bytes of all that Go has from the kernel,
// when it is collected for the first time: somewhat less than what it holds at rest.
var first = map[string]int64{
	"kube-apiserver":          128 << 20,
	"kube-controller-manager": 40 << 20,
	"kube-scheduler":          32 << 20,
	"kube-proxy":              28 << 20,
	"kubelet":                 32 << 20,
	"coredns":                 28 << 20,
	"containerd":              28 << 20,
}

const (
	// percent is how much a heap grows between two collections of a start.
	percent = 100
	// most is how many collections a start has: kube-apiserver's needs five. More
	// would leave a component that has much to do from its first second on, on a
	// small machine, with twice the memory for too long.
	most = 8
	// calm is how long nothing is collected when a start is over before it has had so
	// many. It is longer than what lies between two collections of a start on a slow
	// machine, and shorter than the two minutes after which Go collects in any case.
	calm = 20 * time.Second
)

func init() {
	if bytes, ok := first[filepath.Base(os.Args[0])]; ok {
		rest(bytes)
	}
}

// start is that of a component, with what its environment says of the time after it.
type start struct {
	percent     int
	limit       int64
	collections int
	last        time.Time
}

// rest lets nothing be collected until Go holds so many bytes.
func rest(bytes int64) {
	s := &start{percent: debug.SetGCPercent(-1), limit: debug.SetMemoryLimit(bytes)}
	s.afterNext()
}

// afterNext has collected called when there has been a collection.
func (s *start) afterNext() {
	type unused struct{ _ [16]byte }
	runtime.AddCleanup(&unused{}, (*start).collected, s)
}

// collected is called after each collection, by one goroutine of Go's own.
func (s *start) collected() {
	now := time.Now()
	if s.over(now) {
		debug.SetGCPercent(s.percent)
		return
	}
	if s.collections == 0 {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(s.limit)
	}
	s.collections++
	s.last = now
	s.afterNext()
}

// over tells whether the start is, at a collection now.
func (s *start) over(now time.Time) bool {
	return s.collections > 0 && (s.collections >= most || now.Sub(s.last) > calm)
}
