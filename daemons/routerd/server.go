package main

import (
	"context"
	"errors"
	"net"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"github.com/dactyl-os/dactyl/ipc"
)

const (
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 15 * time.Minute
	// pingAfter and pingWait find out that a client is gone without a word.
	pingAfter = time.Minute
	pingWait  = 20 * time.Second
	// minPing is how often a client may ask whether we are there.
	minPing    = 10 * time.Second
	maxStreams = 128     // of one connection at a time
	maxHeader  = 8 << 10 // bytes of one call's metadata

	// Windows are how much a client may send before it is read: fixed, so that
	// memory is bounded, and enough for a 10 ms round trip at 100 Mbit/s.
	streamWindow     = 128 << 10
	connectionWindow = 256 << 10
	bufferBytes      = 8 << 10 // of a connection, each way
)

// server is the port with everything behind it.
type server struct {
	grpc    *grpc.Server
	health  *health.Server
	gateway *gateway
	keeper  *keeper
	gate    *gate
	end     context.CancelFunc
}

func newServer(g *gateway, s *schema, k *keeper, at *gate) *server {
	out := &server{health: health.NewServer(), gateway: g, keeper: k, gate: at}
	g.claimed = k.again
	g.ending, out.end = context.WithCancel(context.Background())
	out.grpc = grpc.NewServer(
		grpc.Creds(newHandshakes(k, at, g.log)),
		grpc.ForceServerCodecV2(codec{}),
		grpc.UnknownServiceHandler(g.unrouted),
		grpc.StreamInterceptor(g.streams),
		grpc.UnaryInterceptor(g.unary),
		grpc.MaxRecvMsgSize(ipc.MaxMessageBytes),
		grpc.MaxSendMsgSize(ipc.MaxMessageBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.ReadBufferSize(bufferBytes),
		grpc.WriteBufferSize(bufferBytes),
		grpc.NumStreamWorkers(uint32(2*runtime.GOMAXPROCS(0))), // their stacks have grown already
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: pingAfter, Timeout: pingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
	)
	healthpb.RegisterHealthServer(out.grpc, out.health) // "" is SERVING: whoever can ask has seen a certificate
	about := reflection.ServerOptions{Services: s, DescriptorResolver: s}
	reflectionpb.RegisterServerReflectionServer(out.grpc, reflection.NewServerV1(about))
	reflectionalphapb.RegisterServerReflectionServer(out.grpc, reflection.NewServer(about))
	return out
}

// run serves from when there is a certificate until stop.
func (s *server) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.keeper.ready:
	}
	err := s.grpc.Serve(s.gate)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// stop finishes what was begun and returns when all is answered, or breaks it
// off when ctx ends. gRPC drops connections that it has accepted and not looked
// at when it is told to stop; so first nothing more may come.
func (s *server) stop(ctx context.Context) {
	s.gate.shut(ctx)
	s.end()
	s.health.Shutdown()
	defer context.AfterFunc(ctx, s.grpc.Stop)()
	s.grpc.GracefulStop()
}
