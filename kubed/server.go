package main

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/ipc/kube"
)

// server answers ipc/kube.
type server struct{ state state }

func newServer(s state) *server { return &server{s} }

func (s *server) GetStatus(context.Context, *kube.GetStatusRequest) (*kube.GetStatusResponse, error) {
	now := statuses[s.state]
	return &kube.GetStatusResponse{Configured: now.configured, Message: now.message}, nil
}

func (s *server) RestartComponent(context.Context, *kube.RestartComponentRequest) (*kube.RestartComponentResponse, error) {
	return nil, status.Error(codes.FailedPrecondition, statuses[s.state].message)
}

func (s *server) GetKubeconfigInfo(context.Context, *kube.GetKubeconfigInfoRequest) (*kube.KubeconfigInfo, error) {
	return nil, status.Error(codes.FailedPrecondition, statuses[s.state].message)
}
