// Scenario init_survives: garbage, half messages, giant lengths and floods of
// connections on every socket that PID 1 serves, and on the API port, which it
// holds for the gateway.
// PID 1 stays, no daemon restarts, and memory does not grow without bound. If it
// fails, one confused program brings the machine down.
package init_survives

import (
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/test/vm"
)

// Scenario wants Config.NoReboot: a machine that started anew would look well.
func Scenario(t *testing.T, r *vm.Running) {
	ctx := vm.Context(t)
	before := processes(t, r)

	abused, err := probe.NewClient(r.Admin).AbuseSockets(ctx, &probe.AbuseSocketsRequest{Connections: 200, Bytes: 64 << 10, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(abused.Sockets) < 3 {
		t.Errorf("only %v were tried; PID 1 serves more", abused.Sockets)
	}
	floodAPI(t, r)

	r.WaitUp()
	after := processes(t, r)
	for name, was := range before {
		switch now := after[name]; {
		case now == nil || now.Pid != was.Pid:
			t.Errorf("%s: process %d before, %v after", name, was.Pid, now)
		case name == "init" && now.PssBytes > was.PssBytes+32<<20:
			t.Errorf("PID 1 grew from %d to %d bytes", was.PssBytes, now.PssBytes)
		}
	}
}

// floodAPI sends garbage to the API port, before and after the TLS handshake, on
// many connections at once, some of which say nothing at all.
func floodAPI(t *testing.T, r *vm.Running) {
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			garbage := make([]byte, 4096)
			random := rand.New(rand.NewPCG(2, uint64(i)))
			for j := range garbage {
				garbage[j] = byte(random.Uint32())
			}
			c, err := net.DialTimeout("tcp", r.API, 10*time.Second)
			if err != nil {
				return // refused is fine; what matters is that the machine stays
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			if i%3 == 0 {
				s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
				if s.Handshake() == nil {
					s.Write(garbage)
				}
				io.Copy(io.Discard, s)
				return
			}
			c.Write(garbage)
			io.Copy(io.Discard, c)
		})
	}
	wg.Wait()
}

func processes(t *testing.T, r *vm.Running) map[string]*probe.Process {
	t.Helper()
	list, err := probe.NewClient(r.Admin).ListProcesses(vm.Context(t), &probe.ListProcessesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*probe.Process{}
	for _, p := range list.Processes {
		out[p.Daemon] = p
	}
	return out
}
