package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// consentFlags are those of commands that ask first.
func consentFlags(f *pflag.FlagSet) { f.BoolP("yes", "y", false, "do not ask") }

// consent asks whether to do what cannot be undone. Without a terminal nobody
// can answer, so only --yes is consent.
func (c *call) consent(question string, a ...any) error {
	if c.isSet("yes") {
		return nil
	}
	if !c.asks() {
		return fail(exitRefused, "not done: there is no terminal to ask on, and no --yes")
	}
	answer, err := c.ask(fmt.Sprintf(question, a...) + " [y/N] ")
	if err != nil {
		return err
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	}
	return fail(exitRefused, "not done")
}

// ask returns the line that the user answers with.
func (c *call) ask(question string) (string, error) {
	fmt.Fprint(c.stderr, printable(question))
	type reply struct {
		line string
		err  error
	}
	// Reading cannot be interrupted; the process ends if ctx does.
	replies := make(chan reply, 1)
	go func() {
		line, err := bufio.NewReader(c.stdin).ReadString('\n')
		replies <- reply{line, err}
	}()
	select {
	case <-c.ctx.Done():
		fmt.Fprintln(c.stderr)
		return "", c.ctx.Err()
	case r := <-replies:
		if r.err != nil && r.line == "" {
			return "", fail(exitRefused, "not done: no answer")
		}
		return strings.TrimSpace(r.line), nil
	}
}
