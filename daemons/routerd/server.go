package main

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"github.com/dactyl-os/dactyl/ipc"
)

const (
	idleTimeout = 15 * time.Minute
	// pingAfter and pingWait find out that a client is gone without closing its connection.
	pingAfter = time.Minute
	pingWait  = 20 * time.Second
	// minPing is how often a client may ask whether we are there.
	minPing   = 10 * time.Second
	maxHeader = 8 << 10 // bytes of one call's metadata

	// maxStreams is how many calls of one connection are in progress at a time; a client of
	// gRPC keeps the others until one has ended.
	maxStreams = 64
	// maxAnonymousStreams and maxAnonymousMessage are what a claim and a health check need.
	maxAnonymousStreams = 2
	maxAnonymousMessage = 16 << 10

	// Windows are how much a client may send before it is read: fixed, so that memory is
	// bounded. gRPC takes none that are smaller. A stream's grows for a large message that is received.
	streamWindow     = 64 << 10
	connectionWindow = 256 << 10
	bufferBytes      = 8 << 10 // of a connection, each way
)

// server is the port with everything behind it: a gRPC server for clients with a
// valid certificate, and one with less of everything for those without.
type server struct {
	members *grpc.Server
	public  *grpc.Server
	health  *health.Server
	gateway *gateway
	keeper  *keeper
	gate    *gate
	end     context.CancelFunc
}

func newServer(g *gateway, s *schema) *server {
	out := &server{health: health.NewServer(), gateway: g, keeper: g.gate.keeper, gate: g.gate}
	g.claimed = out.keeper.again
	g.ending, out.end = context.WithCancel(context.Background())
	out.members = out.grpcServer(
		grpc.MaxRecvMsgSize(ipc.MaxMessageBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.NumStreamWorkers(uint32(2*runtime.GOMAXPROCS(0))), // their stacks have grown already
	)
	out.public = out.grpcServer(
		grpc.MaxRecvMsgSize(maxAnonymousMessage),
		grpc.MaxConcurrentStreams(maxAnonymousStreams),
		grpc.InitialConnWindowSize(streamWindow),
	)
	about := reflection.ServerOptions{Services: s, DescriptorResolver: s}
	reflectionpb.RegisterServerReflectionServer(out.members, reflection.NewServerV1(about))
	reflectionalphapb.RegisterServerReflectionServer(out.members, reflection.NewServer(about))
	return out
}

// grpcServer returns a server with what the two have in common.
func (s *server) grpcServer(options ...grpc.ServerOption) *grpc.Server {
	out := grpc.NewServer(append(options,
		grpc.Creds(sessions{s.gate}),
		grpc.ForceServerCodecV2(codec{}),
		grpc.UnknownServiceHandler(s.gateway.unrouted),
		grpc.StreamInterceptor(s.gateway.streams),
		grpc.MaxSendMsgSize(ipc.MaxMessageBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.InitialWindowSize(streamWindow),
		grpc.ReadBufferSize(bufferBytes),
		grpc.WriteBufferSize(bufferBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: pingAfter, Timeout: pingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
	)...)
	out.RegisterService(&streamingHealth, s.health) // "" is SERVING: a client that can ask has seen a certificate
	return out
}

// run serves from when there is a certificate until stop.
func (s *server) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.keeper.ready:
	}
	ended := make(chan error, 3)
	var serving sync.WaitGroup
	for _, serve := range []func() error{
		s.gate.run,
		func() error { return s.members.Serve(s.gate.members) },
		func() error { return s.public.Serve(s.gate.public) },
	} {
		serving.Go(func() { ended <- serve() })
	}
	defer serving.Wait()
	for range cap(ended) {
		if err := <-ended; err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, grpc.ErrServerStopped) {
			s.gate.Listener.Close()
			s.members.Stop()
			s.public.Stop()
			return err
		}
	}
	return nil
}

// stop finishes what was begun and returns when all is answered, or breaks it
// off when ctx ends. gRPC drops connections that it has accepted and not looked
// at when it is told to stop; so first nothing more may come.
func (s *server) stop(ctx context.Context) {
	s.gate.shut(ctx)
	s.end()
	s.health.Shutdown()
	defer context.AfterFunc(ctx, func() {
		s.members.Stop()
		s.public.Stop()
	})()
	var stopping sync.WaitGroup
	stopping.Go(s.members.GracefulStop)
	stopping.Go(s.public.GracefulStop)
	stopping.Wait()
}
