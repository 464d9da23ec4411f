package main

import (
	"context"
	"runtime/debug"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc"
)

// PID 1 must outlive its callers' mistakes and malice. This file keeps a bug in a handler from
// being the machine's end; limits, in server.go, bound how much of PID 1 one caller can have.

// guarded registers services for one caller.
type guarded struct {
	ipc.Registrar
	log journal
}

// RegisterService implements ipc.Registrar.
func (g *guarded) RegisterService(name string, desc *ttrpc.ServiceDesc) {
	for method, handle := range desc.Methods {
		desc.Methods[method] = func(ctx context.Context, unmarshal func(any) error) (answer any, err error) {
			defer g.survive(method, &err)
			return handle(ctx, unmarshal)
		}
	}
	for method, stream := range desc.Streams {
		handle := stream.Handler
		stream.Handler = func(ctx context.Context, s ttrpc.StreamServer) (answer any, err error) {
			defer g.survive(method, &err)
			return handle(ctx, s)
		}
		desc.Streams[method] = stream
	}
	g.Registrar.RegisterService(name, desc)
}

// survive turns a panic into an answer.
func (g *guarded) survive(method string, err *error) {
	if r := recover(); r != nil {
		g.log.warn("BUG: %s: %v: %s", method, r, debug.Stack())
		*err = status.Errorf(codes.Internal, "%s: a bug in PID 1, see its log", method)
	}
}
