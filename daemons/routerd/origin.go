package main

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dactyl-os/dactyl/ipc"
)

// withOrigin returns s, whose calls tell the daemon on whose behalf they are made: trustd
// records by which certificate another was issued.
func withOrigin(s grpc.ServerStream, c caller) grpc.ServerStream {
	if c.origin.Serial == "" || c.refusal != nil {
		return s
	}
	return originStream{s, ipc.WithOrigin(s.Context(), c.origin)}
}

type originStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s originStream) Context() context.Context { return s.ctx }
