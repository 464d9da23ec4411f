package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

// version is the release that this command belongs to; the linker sets it.
var version = "0.0.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends what goes on in order, the second at once.
	context.AfterFunc(ctx, stop)
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(a.run(ctx, os.Args[1:]))
}

// app is one run of the command.
type app struct {
	stdin  *os.File
	stdout io.Writer
	stderr io.Writer
	options

	// started says that a command's own code runs: an error before that is one of
	// the command line.
	started bool
}

// options are the flags that every command has.
type options struct {
	store   string
	context string
	address string
	output  string
	wide    bool // the table has all columns
	timeout time.Duration
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if !a.started {
		err = fail(exitUsage, "%w; see %s --help", err, a.asked(root, args))
	}
	if ctx.Err() != nil && !errors.As(err, new(*failure)) {
		err = fail(exitInterrupted, "interrupted")
	}
	fmt.Fprintln(a.stderr, "dactyl:", printable(message(err)))
	return codeOf(err)
}

// asks tells whether somebody is there to answer a question.
func (a *app) asks() bool { return term.IsTerminal(int(a.stdin.Fd())) }

// watched tells whether somebody looks at progress.
func (a *app) watched() bool {
	f, ok := a.stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// note tells the user something that is not the answer.
func (a *app) note(format string, v ...any) {
	fmt.Fprintln(a.stderr, printable(fmt.Sprintf(format, v...)))
}
