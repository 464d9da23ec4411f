package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/trust"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// patience bounds every wait of a scenario. It is far longer than anything takes
// on a slow machine without KVM: only what never happens fails by it.
const patience = 4 * time.Minute

// Running is a booted and claimed machine, in the hands of one test.
type Running struct {
	*claimed
	t *testing.T
}

// claimed is what stays of a machine from test to test, and over power cuts.
type claimed struct {
	*Machine
	Config   Config
	Identity Identity // the admin's
	Admin    *Conn

	life  context.Context // the machine's: longer than one wait, and than one test if it is shared
	atEnd func(func())    // what to do when life is over, last first
	left  int             // packets that tried to leave, which a test was failed for
}

// Image returns the path of the image of the given mode, which make test has
// built.
func Image(t *testing.T, mode string) string {
	t.Helper()
	path := filepath.Join(repository(t), "out", mode, "dactyl.raw")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: build it with: make image MODE=%s", err, mode)
	}
	return path
}

// repository finds the repository's root from wherever a test runs.
func repository(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("not inside the repository")
	return ""
}

// Context ends with the test, or when something has taken far too long.
func Context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// Boot starts the test image on a new disk, claims it with the code on its
// serial line, and waits until every daemon is up. The machine ends with the test.
func Boot(t *testing.T, c Config) *Running {
	t.Helper()
	if c.Image == "" {
		c.Image = Image(t, "test")
	}
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	return boot(t, &claimed{Config: c, life: t.Context(), atEnd: t.Cleanup})
}

func boot(t *testing.T, c *claimed) *Running {
	t.Helper()
	r := c.with(t)
	r.PowerOn()
	code := r.PairingCode()
	id, err := Claim(Context(t), r.API, code)
	if err != nil {
		t.Fatalf("claim with %s: %v\n%s", code, err, r.Serial.Last(40))
	}
	r.Identity = id
	r.connect()
	r.WaitUp()
	return r
}

// with hands the machine to a test.
func (c *claimed) with(t *testing.T) *Running {
	t.Cleanup(func() {
		if c.Machine == nil {
			return
		}
		if t.Failed() {
			t.Logf("the serial line ended with:\n%s", c.Serial.Last(20))
		}
		c.stayedIn(t)
		c.lived(t)
	})
	return &Running{c, t}
}

// For hands the machine to a subtest, until that ends.
func (r *Running) For(t *testing.T) *Running { return r.with(t) }

// stayedIn fails the test if an Offline machine has tried to send something out.
func (c *claimed) stayedIn(t *testing.T) {
	if c.Config.NIC != Offline {
		return
	}
	leaving, err := c.Leaving()
	if err != nil {
		t.Error(err)
	}
	for _, p := range leaving[min(c.left, len(leaving)):] {
		t.Errorf("offline, but the machine sent %v", p)
	}
	c.left = len(leaving)
}

// PowerOn starts the machine again on the disk it has. It finds its own ports
// forwarded from others of this host.
func (r *Running) PowerOn() {
	r.t.Helper()
	if r.Machine != nil {
		r.stayedIn(r.t)
		r.lived(r.t)
	}
	m, err := Start(r.life, r.Config)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Machine, r.left = m, 0
	r.atEnd(m.Kill)
	if r.Identity.Authority != nil {
		r.connect()
	}
}

func (r *Running) connect() {
	r.t.Helper()
	c, err := Dial(r.API, r.Identity)
	if err != nil {
		r.t.Fatal(err)
	}
	r.atEnd(c.Close)
	r.Admin = c
}

// Dial connects as id, until the test ends.
func (r *Running) Dial(id Identity) *Conn {
	r.t.Helper()
	c, err := Dial(r.API, id)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// As returns a connection with a certificate of the given role.
func (r *Running) As(role auth.Role) *Conn {
	r.t.Helper()
	id, err := Issue(Context(r.t), r.Admin, r.Identity.Authority, role)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.Dial(id)
}

// pairingCode is the console's line with the code, as a pattern for Serial.WaitFor.
const pairingCode = `pairing code: ([0-9A-Z-]{24,})`

// PairingCode waits for the code on the serial line.
func (r *Running) PairingCode() string {
	r.t.Helper()
	m, err := r.Serial.WaitFor(Context(r.t), 0, pairingCode)
	if err != nil {
		r.t.Fatal(err)
	}
	return m[1]
}

// Machine0 returns a client of PID 1's service.
func (r *Running) Machine0() machine.Client { return machine.NewClient(r.Admin) }

// Trust returns a client of trustd.
func (r *Running) Trust() trust.Client { return trust.NewClient(r.Admin) }

// WaitUp waits until every daemon is up, those aside that nobody has requested,
// and returns them as a brief answer has them.
func (r *Running) WaitUp() []*machine.Daemon {
	r.t.Helper()
	up, err := daemonsUp(Context(r.t), r.Machine0())
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.Serial.Last(40))
	}
	return up
}

func daemonsUp(ctx context.Context, init machine.Client) ([]*machine.Daemon, error) {
	for {
		list, err := init.ListDaemons(ctx, &machine.ListDaemonsRequest{Brief: true})
		if err != nil {
			return nil, fmt.Errorf("list daemons: %w", err)
		}
		var not []string
		for _, d := range list.Daemons {
			if d.State != machine.DaemonState_DAEMON_STATE_UP && d.State != machine.DaemonState_DAEMON_STATE_IDLE {
				not = append(not, d.Name+": "+words.Of(d.State)+" "+d.Reason)
			}
		}
		if len(not) == 0 {
			return list.Daemons, nil
		}
		if !Pause(ctx) {
			return nil, fmt.Errorf("not up: %s", strings.Join(not, "; "))
		}
	}
}

// moment is the time between two looks at a condition.
const moment = 100 * time.Millisecond

// Pause waits for the time between two looks at a condition; it returns false
// when ctx has ended.
func Pause(ctx context.Context) bool { return Elapse(ctx, moment) }

// slowPause is Pause where what is waited for takes long and wants the processors for
// itself: each look costs a machine without KVM some 10 ms.
func slowPause(ctx context.Context) bool { return Elapse(ctx, 500*time.Millisecond) }

// Elapse lets time pass, where the moment of what comes next is what a scenario varies;
// it returns false when ctx has ended before. Who waits for something uses Eventually.
func Elapse(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Eventually looks until condition returns "", which says what is missing
// otherwise. After a look it rests for as long as that took, at least for a moment: a
// kubectl takes half of a processor from the machine that it waits for.
func Eventually(t *testing.T, condition func() string) {
	t.Helper()
	ctx := Context(t)
	for {
		begin := time.Now()
		missing := condition()
		if missing == "" {
			return
		}
		if !Elapse(ctx, max(moment, time.Since(begin))) {
			t.Fatal(missing)
		}
	}
}
