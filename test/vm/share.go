package vm

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
)

// Shared is one machine for several scenarios of a package: booting costs more than
// most of them do. Each scenario leaves it as it found it, in a namespace of its own.
//
//	var machine = vm.Share(vm.Config{YAML: "kubernetes: {}\n", MemoryMiB: 2048})
//
//	func TestMain(m *testing.M) { os.Exit(machine.Run(m)) }
//
//	func TestSomething(t *testing.T) {
//		r := machine.Get(t)
//		r.WaitReady()
type Shared struct {
	config Config

	mu    sync.Mutex // guards what follows
	m     *claimed
	first string // the test that booted it
	ends  []func()
}

// Share says which machine to share. It is booted when the first test wants it.
func Share(c Config) *Shared { return &Shared{config: c} }

// Run runs the package's tests and ends the machine; it returns the exit code.
func (s *Shared) Run(m *testing.M) int {
	defer s.end()
	return m.Run()
}

func (s *Shared) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range slices.Backward(s.ends) {
		f()
	}
}

// Get hands the machine to t, until t ends. Tests that share one do not run in
// parallel.
func (s *Shared) Get(t *testing.T) *Running {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch running := os.Getenv(attachEnv); {
	case s.m == nil && running != "":
		s.m, s.first = attach(t, s, running), t.Name()
		r := s.m.with(t)
		r.connect()
		return r
	case s.m == nil:
		s.m, s.first = s.prepare(t), t.Name()
		return boot(t, s.m)
	case s.m.Admin == nil:
		t.Fatalf("the shared machine did not come up: see %s", s.first)
	case s.m.Ended():
		t.Fatal("a test before this one has left the shared machine powered off")
	}
	return s.m.with(t)
}

func (s *Shared) prepare(t *testing.T) *claimed {
	t.Helper()
	c := s.config
	if c.Image == "" {
		c.Image = Image(t, "test")
	}
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "dactyl-vm-")
		if err != nil {
			t.Fatal(err)
		}
		c.Dir = dir
		s.ends = append(s.ends, func() { os.RemoveAll(dir) })
	}
	life, cancel := context.WithCancel(context.Background())
	s.ends = append(s.ends, cancel)
	return &claimed{Config: c, life: life, atEnd: func(f func()) { s.ends = append(s.ends, f) }}
}
