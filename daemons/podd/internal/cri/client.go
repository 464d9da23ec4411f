// Package cri asks a container runtime what the kubelet asks it, as far as podd wants to
// know: https://kubernetes.io/docs/concepts/architecture/cri.
//
// It has the messages in use instead of all of k8s.io/cri-api, whose 170 cost a process
// that asks twice a minute some 0.6 MiB of heap.
package cri

import (
	"context"

	"google.golang.org/grpc"
)

// Conditions of a RuntimeStatus.
const (
	RuntimeReady = "RuntimeReady" // containers can be started
	NetworkReady = "NetworkReady" // and those with a network of their own
)

// Client is a container runtime behind a connection. Errors are gRPC's.
type Client struct{ Conn grpc.ClientConnInterface }

const (
	runtimeService = "/runtime.v1.RuntimeService/"
	imageService   = "/runtime.v1.ImageService/"
)

func call[Answer any](ctx context.Context, c Client, method string, request any) (*Answer, error) {
	answer := new(Answer)
	if err := c.Conn.Invoke(ctx, method, request, answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// Version names the runtime.
func (c Client) Version(ctx context.Context, r *VersionRequest) (*VersionResponse, error) {
	return call[VersionResponse](ctx, c, runtimeService+"Version", r)
}

// Status tells whether it can start containers.
func (c Client) Status(ctx context.Context, r *StatusRequest) (*StatusResponse, error) {
	return call[StatusResponse](ctx, c, runtimeService+"Status", r)
}

// ListPodSandbox lists pods, ended ones too until the kubelet removes them.
func (c Client) ListPodSandbox(ctx context.Context, r *ListPodSandboxRequest) (*ListPodSandboxResponse, error) {
	return call[ListPodSandboxResponse](ctx, c, runtimeService+"ListPodSandbox", r)
}

// StopPodSandbox ends what is left of a pod and takes its network down.
func (c Client) StopPodSandbox(ctx context.Context, r *StopPodSandboxRequest) (*StopPodSandboxResponse, error) {
	return call[StopPodSandboxResponse](ctx, c, runtimeService+"StopPodSandbox", r)
}

// ListContainers lists pods' containers, ended ones too.
func (c Client) ListContainers(ctx context.Context, r *ListContainersRequest) (*ListContainersResponse, error) {
	return call[ListContainersResponse](ctx, c, runtimeService+"ListContainers", r)
}

// StopContainer returns when the container has ended.
func (c Client) StopContainer(ctx context.Context, r *StopContainerRequest) (*StopContainerResponse, error) {
	return call[StopContainerResponse](ctx, c, runtimeService+"StopContainer", r)
}

// ListImages lists what pods can be started from.
func (c Client) ListImages(ctx context.Context, r *ListImagesRequest) (*ListImagesResponse, error) {
	return call[ListImagesResponse](ctx, c, imageService+"ListImages", r)
}

// ImageStatus finds an image by a name, an id or a digest.
func (c Client) ImageStatus(ctx context.Context, r *ImageStatusRequest) (*ImageStatusResponse, error) {
	return call[ImageStatusResponse](ctx, c, imageService+"ImageStatus", r)
}

// RemoveImage removes an image with all its names.
func (c Client) RemoveImage(ctx context.Context, r *RemoveImageRequest) (*RemoveImageResponse, error) {
	return call[RemoveImageResponse](ctx, c, imageService+"RemoveImage", r)
}
