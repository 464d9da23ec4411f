package main

import (
	"crypto/sha256"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/auth"
)

// quota is a limit on what is in progress: in all, and with one certificate.
type quota struct{ all, ofOne int }

var (
	// connections cost about 60 KiB each.
	connections = quota{all: 256, ofOne: 32}
	// calls cost up to streamWindow each before their requests are read, and a stream
	// costs a socket to its daemon.
	calls = quota{all: 256, ofOne: maxStreams}
	// largeMessages may grow to ipc.MaxMessageBytes and are copied twice on their way.
	largeMessages = quota{all: 3, ofOne: 2}
)

// allows reports whether a certificate that has ofOne may have one more when used are
// in use by all. Readers use at most half, operators three quarters, admins all: so
// a lower role cannot lock a higher one out.
func (q quota) allows(used, ofOne int, role auth.Role) bool {
	return used < q.all*quarters[role]/4 && ofOne < q.ofOne
}

var quarters = map[auth.Role]int{auth.Role_ROLE_READER: 2, auth.Role_ROLE_OPERATOR: 3, auth.Role_ROLE_ADMIN: 4}

// certificateKey identifies a client certificate.
type certificateKey [sha256.Size]byte

// member is one valid client certificate, with what its holder has in progress over
// all connections.
type member struct {
	key                 certificateKey
	role                auth.Role
	conns, calls, large int // guarded by limits.mu
}

// limits counts what clients with a valid certificate have in progress.
type limits struct {
	mu      sync.Mutex // guards what follows and the counts of members
	members map[certificateKey]*member
	used    struct{ conns, calls, large int }
	waiting []*waiter // for a large message, oldest first; at most one per connection
}

// waiter is one connection that waits until its large message may come in.
type waiter struct {
	member  *member
	granted chan struct{}
}

func newLimits() *limits { return &limits{members: map[certificateKey]*member{}} }

// join counts a connection; nil means that there are too many.
func (l *limits) join(key certificateKey, role auth.Role) *member {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.members[key]
	if m == nil {
		m = &member{key: key, role: role}
	}
	if !connections.allows(l.used.conns, m.conns, m.role) {
		return nil
	}
	l.members[key] = m
	m.conns++
	l.used.conns++
	return m
}

func (l *limits) leave(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used.conns--
	if m.conns--; m.conns == 0 {
		delete(l.members, m.key)
	}
}

// begin counts a call until end.
func (l *limits) begin(m *member) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case m.calls >= calls.ofOne:
		return status.Errorf(codes.ResourceExhausted, "%d calls with this certificate are in progress: at most %d at a time", m.calls, calls.ofOne)
	case !calls.allows(l.used.calls, m.calls, m.role):
		return status.Errorf(codes.ResourceExhausted, "%d calls of all clients are in progress, which is the limit for this role: call again later", l.used.calls)
	}
	m.calls++
	l.used.calls++
	return nil
}

func (l *limits) end(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.calls--
	l.used.calls--
}

// takeLarge waits until a large message may come in, or until stop is closed. It
// reports whether the place was taken.
func (l *limits) takeLarge(m *member, stop <-chan struct{}) bool {
	l.mu.Lock()
	if largeMessages.allows(l.used.large, m.large, m.role) {
		l.grantLocked(m)
		l.mu.Unlock()
		return true
	}
	w := &waiter{m, make(chan struct{})}
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	select {
	case <-w.granted:
		return true
	case <-stop:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.waiting {
		if other == w {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			return false
		}
	}
	return true // granted at the same moment
}

func (l *limits) giveLarge(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.large--
	l.used.large--
	kept := l.waiting[:0]
	for _, w := range l.waiting {
		if !largeMessages.allows(l.used.large, w.member.large, w.member.role) {
			kept = append(kept, w)
			continue
		}
		l.grantLocked(w.member)
		close(w.granted)
	}
	clear(l.waiting[len(kept):])
	l.waiting = kept
}

func (l *limits) grantLocked(m *member) {
	m.large++
	l.used.large++
}
