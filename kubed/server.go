package main

import (
	"context"

	"github.com/dactyl-os/dactyl/ipc/kube"
)

// server answers ipc/kube.
type server struct{ state state }

func newServer(s state) *server { return &server{s} }

func (s *server) GetStatus(context.Context, *kube.GetStatusRequest) (*kube.GetStatusResponse, error) {
	now := statuses[s.state]
	return &kube.GetStatusResponse{Configured: now.configured, Message: now.message}, nil
}
