package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dactyl-os/dactyl/buildkit/system"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/words"
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
			if d.State != machine.DaemonState_DAEMON_STATE_UP && d.State != machine.DaemonState_DAEMON_STATE_IDLE {
				not = append(not, d.Name+": "+words.Of(d.State))
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

// nativeSystem is Dactyl on this machine itself.
type nativeSystem struct {
	*native.Machine
	admin *vm.Conn
	root  string
}

// upTimeout is how long the native system may take until it is up: it needs a
// fraction of a second.
const upTimeout = time.Minute

// native returns a development system, which the first that wants it starts.
func (b *bench) native(ctx context.Context) (*nativeSystem, error) {
	if b.system != nil {
		return b.system, nil
	}
	dir := system.Dir("native")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s, err := startNative(ctx, "dev", filepath.Join(dir, "root"), "")
	b.system = s
	return s, err
}

// startNative stages, starts and claims a system; it returns when its daemons are up.
func startNative(ctx context.Context, mode, root, yaml string) (*nativeSystem, error) {
	version, err := system.Version()
	if err != nil {
		return nil, err
	}
	if _, err := system.Stage(ctx, mode, version, root, os.Stderr); err != nil {
		return nil, err
	}
	if yaml != "" {
		if err := os.WriteFile(filepath.Join(root, "boot/cluster.yaml"), []byte(yaml), 0o644); err != nil {
			return nil, err
		}
	}
	var said strings.Builder
	m, err := native.Start(ctx, root, &said)
	if err != nil {
		return nil, err
	}
	s := &nativeSystem{Machine: m, root: root}
	if err := s.claim(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("%w\n%s", err, said.String())
	}
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
