package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dactyl-os/dactyl/daemons/kit"
)

func main() { kit.Main(setup) }

// setup opens the terminals that there are.
func setup(_ context.Context, d *kit.Daemon) error {
	c := &console{peers: newPeers(d.Peer), log: d.Log, failing: map[terminal]bool{}}
	var errSerial, errScreen error
	c.serial, errSerial = openTerminal("/dev/ttyS0")
	c.screen, errScreen = openTerminal("/dev/tty1")
	if c.serial == nil && c.screen == nil {
		return kit.Unwanted(errors.Join(errSerial, errScreen))
	}
	d.Go("show", c.show)
	return nil
}

// terminal is where text is shown.
type terminal interface {
	Write([]byte) (int, error)
}

// console is what is shown, and where. A terminal that is not there is nil.
type console struct {
	peers  peers
	log    *slog.Logger
	serial terminal
	screen terminal
	drawn  string // what the screen shows

	failing map[terminal]bool // the last write came to nothing, and the log says so
}

// clearScreen goes to the top and clears; the cursor is hidden and the screen never blanked.
const clearScreen = "\x1b[?25l\x1b[9;0]\x1b[H\x1b[2J"

// show looks and draws until ctx ends.
func (c *console) show(ctx context.Context) error {
	var v view
	var p pace
	for {
		v = c.peers.look(ctx, v)
		text, wait := p.next(v, time.Now())
		if c.write(c.serial, text) {
			p.did(text, time.Now())
		}
		if s := v.screen(); s != c.drawn && c.write(c.screen, clearScreen+s) {
			c.drawn = s
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// write shows text and tells whether it did. A terminal that takes none, a serial
// line that nobody has wired, is no reason to end; what it has missed is shown at
// the next look.
func (c *console) write(to terminal, text string) bool {
	if to == nil || text == "" {
		return false
	}
	if _, err := to.Write([]byte(text)); err != nil {
		if !c.failing[to] {
			c.log.Warn("write to a terminal", "err", err)
		}
		c.failing[to] = true
		return false
	}
	c.failing[to] = false
	return true
}
