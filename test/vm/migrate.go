package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Names of a snapshot's files.
const (
	memoryFile   = "memory.zst" // QEMU's migration stream
	diskFile     = "disk.qcow2" // the whole disk: no layer over another file
	varsFile     = "vars.fd"    // the firmware's variables
	identityFile = "identity.json"
)

// save writes the memory of a machine to path and leaves the machine paused: what is on
// its disk belongs to that memory from then on.
func (m *Machine) save(ctx context.Context, path string) error {
	if err := m.qmp.execute(ctx, "stop", nil); err != nil {
		return err
	}
	// The default, 128 MB/s, is for machines that go on meanwhile.
	if err := m.qmp.execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(1) << 40}); err != nil {
		return err
	}
	part := path + ".part"
	compress := fmt.Sprintf("exec:zstd -q -f -1 -T0 -o %s && mv %s %s", shellWord(part), shellWord(part), shellWord(path))
	if err := m.qmp.execute(ctx, "migrate", map[string]any{"uri": compress}); err != nil {
		return err
	}
	if err := m.migrated(ctx); err != nil {
		return fmt.Errorf("save the machine's memory to %s: %w", path, err)
	}
	for { // QEMU is done before the program is that it writes to
		_, err := os.Stat(path)
		if err == nil || !Pause(ctx) {
			return err
		}
	}
}

// load reads the memory that save wrote, into a machine that was started for it, and lets
// it go on.
func (m *Machine) load(ctx context.Context, path string) error {
	// QEMU would tell the network where the machine has moved, in the machine's name.
	if err := m.qmp.execute(ctx, "migrate-set-parameters", map[string]any{"announce-rounds": 0}); err != nil {
		return err
	}
	if err := m.qmp.execute(ctx, "migrate-incoming", map[string]any{"uri": "exec:zstd -q -dc " + shellWord(path)}); err != nil {
		return err
	}
	if err := m.migrated(ctx); err != nil {
		return fmt.Errorf("restore the machine's memory from %s: %w", path, err)
	}
	return m.qmp.execute(ctx, "cont", nil)
}

// migrated waits until the memory has been written or read.
func (m *Machine) migrated(ctx context.Context) error {
	for {
		var now struct {
			Status      string `json:"status"`
			Description string `json:"error-desc"`
		}
		err := m.qmp.query(ctx, "query-migrate", nil, &now)
		switch {
		case m.Ended():
			return errors.Join(ErrEnded, m.result)
		case err != nil:
			return err
		case now.Status == "completed":
			return nil
		case now.Status == "failed", now.Status == "cancelled":
			return fmt.Errorf("QEMU: migration %s: %s", now.Status, now.Description)
		}
		if !Pause(ctx) {
			return fmt.Errorf("migration is %s: %w", now.Status, ctx.Err())
		}
	}
}

// listening waits until QEMU takes commands, which is soon after its start.
func (m *Machine) listening(ctx context.Context) error {
	for {
		err := m.qmp.execute(ctx, "query-status", nil)
		switch {
		case err == nil:
			return nil
		case m.Ended():
			return errors.Join(ErrEnded, m.result)
		case !Pause(ctx):
			return err
		}
	}
}

// shellWord quotes s for the shell that QEMU starts.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
