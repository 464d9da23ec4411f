package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/test/native"
	"github.com/dactyl-os/dactyl/test/vm"
)

// bootedMachine is an emulated machine with the test image, whose PID 1 lets
// look inside.
type bootedMachine struct {
	*vm.Machine
	admin *vm.Conn
	dir   string
}

// emulated returns the machine, which the first that wants it boots and claims.
func (b *bench) emulated(ctx context.Context) (*bootedMachine, error) {
	if b.machine != nil {
		return b.machine, nil
	}
	_, path, err := system.Image(ctx, "test", nil, os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "dactyl-bench-")
	if err != nil {
		return nil, err
	}
	m, err := vm.Start(ctx, vm.Config{Image: path, Dir: dir})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	booted := &bootedMachine{Machine: m, dir: dir}
	if err := booted.claim(ctx); err != nil {
		booted.close()
		return nil, fmt.Errorf("%w\n%s", err, m.Serial.Last(20))
	}
	b.machine = booted
	return booted, nil
}

func (m *bootedMachine) claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	code, err := m.Serial.WaitFor(ctx, 0, `pairing code: ([0-9A-Z-]{24,})`)
	if err != nil {
		return err
	}
	id, err := vm.Claim(ctx, m.API, code[1])
	if err != nil {
		return err
	}
	if m.admin, err = vm.Dial(m.API, id); err != nil {
		return err
	}
	for {
		list, err := machine.NewClient(m.admin).ListDaemons(ctx, &machine.ListDaemonsRequest{Brief: true})
		if err != nil {
			return err
		}
		var not []string
		for _, d := range list.Daemons {
			if d.State != "up" && d.State != "idle" {
				not = append(not, d.Name+": "+d.State)
			}
		}
		if len(not) == 0 {
			return nil
		}
		if !vm.Pause(ctx) {
			return fmt.Errorf("not up: %s", strings.Join(not, ", "))
		}
	}
}

func (m *bootedMachine) close() {
	if m.admin != nil {
		m.admin.Close()
	}
	m.Kill()
	os.RemoveAll(m.dir)
}

// nativeSystem is the development system on this machine itself.
type nativeSystem struct {
	*native.Machine
	admin *vm.Conn
	root  string
}

// upTimeout is how long the native system may take until it is up: it needs a
// fraction of a second.
const upTimeout = time.Minute

// native returns the system, which the first that wants it stages, starts and
// claims.
func (b *bench) native(ctx context.Context) (*nativeSystem, error) {
	if b.system != nil {
		return b.system, nil
	}
	version, err := system.Version()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(system.Dir("native"), 0o755); err != nil {
		return nil, err
	}
	s := &nativeSystem{root: system.Dir("native") + "/root"}
	if _, err := system.Stage(ctx, "dev", version, s.root, os.Stderr); err != nil {
		return nil, err
	}
	var said strings.Builder
	if s.Machine, err = native.Start(ctx, s.root, &said); err != nil {
		return nil, err
	}
	if err := s.claim(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("%w\n%s", err, said.String())
	}
	b.system = s
	return s, nil
}

func (s *nativeSystem) claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	id, err := s.Claim(ctx)
	if err != nil {
		return err
	}
	if s.admin, err = s.Dial(id); err != nil {
		return err
	}
	_, err = s.WaitUp(ctx, s.admin)
	return err
}

func (s *nativeSystem) close() {
	if s.admin != nil {
		s.admin.Close()
	}
	if err := s.Kill(); err != nil {
		progress("%v", err)
	}
}
