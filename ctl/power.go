package main

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	machineapi "github.com/dactyl-os/dactyl/ipc/machine"
)

const (
	// pollInterval is how often a machine that goes or comes is asked.
	pollInterval = time.Second
	// pollTimeout bounds each of these questions.
	pollTimeout = 3 * time.Second
	// goneAfter is how many failures in a row mean that a machine is off: one may
	// be a connection that broke.
	goneAfter = 3
)

func powerFlags(f *pflag.FlagSet) {
	consentFlags(f)
	f.Bool("wait", false, "wait until the machine is back (reboot) or gone (shutdown)")
	f.Duration("wait-timeout", 5*time.Minute, "how `long` to wait at most")
}

// power is one way to end a machine's run.
type power struct {
	verb string
	ask  func(context.Context, machineapi.Client) error
	wait func(*call, *session, *machineapi.Version) error
	done string
}

var reboot = power{
	verb: "Reboot",
	ask: func(ctx context.Context, m machineapi.Client) error {
		_, err := m.Reboot(ctx, &machineapi.RebootRequest{})
		return err
	},
	wait: waitBack,
	done: "is back",
}

var shutdown = power{
	verb: "Shut down",
	ask: func(ctx context.Context, m machineapi.Client) error {
		_, err := m.Shutdown(ctx, &machineapi.ShutdownRequest{})
		return err
	},
	wait: waitGone,
	done: "is gone",
}

func (p power) run(c *call) error {
	s, err := c.connect()
	if err != nil {
		return err
	}
	defer s.close()
	if err := c.consent("%s %s (%s)?", p.verb, s.machine.Name, s.address); err != nil {
		return err
	}
	client := machineapi.NewClient(s)
	before, err := client.GetVersion(c.ctx, &machineapi.GetVersionRequest{})
	if err != nil {
		return err
	}
	if err := p.ask(c.ctx, client); err != nil {
		return err
	}
	if !c.isSet("wait") {
		c.note("%s has been told.", s.machine.Name)
		return nil
	}
	if err := p.wait(c, s, before); err != nil {
		return err
	}
	c.note("%s %s.", s.machine.Name, p.done)
	return nil
}

// waitBack waits until the machine answers in another boot.
func waitBack(c *call, s *session, before *machineapi.Version) error {
	return c.poll(s, "come back", func(now *machineapi.Version, err error) bool {
		return err == nil && now.BootId != before.BootId
	})
}

// waitGone waits until the machine no longer answers.
func waitGone(c *call, s *session, _ *machineapi.Version) error {
	failures := 0
	return c.poll(s, "go", func(_ *machineapi.Version, err error) bool {
		if failures++; err == nil {
			failures = 0
		}
		return failures >= goneAfter
	})
}

// poll asks the machine for its version, over a new connection each time, until
// seen has seen enough.
func (c *call) poll(s *session, event string, seen func(*machineapi.Version, error) bool) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.duration("wait-timeout"))
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if c.ctx.Err() != nil {
				return c.ctx.Err()
			}
			return fail(exitTimeout, "%s did not %s within %v", s.address, event, c.duration("wait-timeout"))
		case <-tick.C:
			if seen(s.version1(ctx)) {
				return nil
			}
		}
	}
}

// version1 asks once, over a connection of its own: a kept one would wait for
// gRPC's back-off.
func (s *session) version1(ctx context.Context) (*machineapi.Version, error) {
	config, err := s.machine.clientTLS()
	if err != nil {
		return nil, err
	}
	cc, err := dial(s.address, config, pollTimeout)
	if err != nil {
		return nil, err
	}
	defer cc.close()
	return machineapi.NewClient(cc).GetVersion(ctx, &machineapi.GetVersionRequest{})
}
