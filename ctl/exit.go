package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Exit codes by class; doc.go says what each promises.
const (
	exitDone        = 0
	exitOther       = 1
	exitConnection  = 2
	exitAuth        = 3
	exitNotFound    = 4
	exitRefused     = 5
	exitTimeout     = 6
	exitUnsupported = 7
	exitUsage       = 64 // sysexits.h
	exitInterrupted = 130
)

// classes maps what a machine answers to the exit code; any other is exitOther.
var classes = map[codes.Code]int{
	codes.Unavailable:        exitConnection,
	codes.Unauthenticated:    exitAuth,
	codes.PermissionDenied:   exitAuth,
	codes.NotFound:           exitNotFound,
	codes.FailedPrecondition: exitRefused,
	codes.Aborted:            exitRefused,
	codes.AlreadyExists:      exitRefused,
	codes.ResourceExhausted:  exitRefused,
	codes.OutOfRange:         exitRefused,
	codes.InvalidArgument:    exitUsage,
	codes.DeadlineExceeded:   exitTimeout,
	codes.Unimplemented:      exitUnsupported,
	codes.Canceled:           exitInterrupted,
}

// failure is an error whose exit code is known.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(code int, format string, a ...any) error {
	return &failure{code, fmt.Errorf(format, a...)}
}

// codeOf is the exit code of an error.
func codeOf(err error) int {
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	if s, ok := status.FromError(err); ok {
		if code, known := classes[s.Code()]; known {
			return code
		}
		return exitOther
	}
	switch {
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	case errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	}
	return exitOther
}

// message is what the user reads: a machine's own words without gRPC's around them.
func message(err error) string {
	var f *failure
	if errors.As(err, &f) {
		return err.Error()
	}
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}
