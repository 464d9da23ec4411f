package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/auth"
	"github.com/dactyl-os/dactyl/ipc/words"
)

// gateway admits calls, carries them and writes them down.
type gateway struct {
	table table
	now   func() time.Time
	log   *slog.Logger

	claimed  func() // called when a call that proves its caller's right by itself has succeeded
	gate     *gate
	within   arrival
	carrying chan struct{}   // holds one for each call of an anonymous client that a daemon works on
	limited  rateLimit       // of the log lines of anonymous clients' calls, and of those that exceed a limit
	ending   context.Context // done when the process is to finish
}

// arrival is how long a message may take to arrive.
type arrival struct{ ofMember, ofAnonymous time.Duration }

// arriveWithin lets a member send 4 MiB at 1 Mbit/s, and an anonymous client its 16 KiB.
var arriveWithin = arrival{ofMember: 34 * time.Second, ofAnonymous: 5 * time.Second}

// maxCarried is how many calls of anonymous clients the daemons work on at a time; the others wait
// in the order in which they came. Claims shall not be in the way of members' calls.
const maxCarried = 2

func newGateway(t table, now func() time.Time, log *slog.Logger, at *gate, within arrival) *gateway {
	return &gateway{table: t, now: now, log: log, gate: at, within: within, carrying: make(chan struct{}, maxCarried)}
}

// admit finds where a call goes and checks that its caller may make it.
func (g *gateway) admit(path string, s *session) (*route, error) {
	r, ok := g.table[path]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "%s: no such method can be called on this machine", path)
	}
	return r, s.caller.may(path, r.role, g.now())
}

// streams intercepts every call: no method is registered as a unary one, whose request
// gRPC would receive before anything is known of the call.
func (g *gateway) streams(service any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return g.logged(s.Context(), info.FullMethod, func(at *session) error {
		r, err := g.admit(info.FullMethod, at)
		if err != nil {
			return err
		}
		if at.member != nil {
			if err := g.gate.limits.begin(at.member); err != nil {
				return err
			}
			defer g.gate.limits.end(at.member)
		}
		if r.conn == nil {
			return handle(service, timedStream{s, g, at})
		}
		return g.carry(withOrigin(s, at.caller), r, at)
	})
}

// timedStream is a stream of one of the gateway's own methods, whose messages have to
// arrive in time too.
type timedStream struct {
	grpc.ServerStream
	gateway *gateway
	at      *session
}

// RecvMsg implements grpc.ServerStream.
func (s timedStream) RecvMsg(m any) error { return s.gateway.receiveInto(s.ServerStream, s.at, m) }

// unrouted is what gRPC wants for services that it does not know; streams handles
// them all.
func (g *gateway) unrouted(any, grpc.ServerStream) error { panic("BUG: a call passed the interceptor") }

// logged makes the call and logs it.
func (g *gateway) logged(ctx context.Context, path string, call func(*session) error) error {
	p, _ := peer.FromContext(ctx)
	at := p.AuthInfo.(*session)
	begin := time.Now()
	err := call(at)
	if (at.member == nil || status.Code(err) == codes.ResourceExhausted) && !g.limited.pass(g.log) {
		return err
	}
	g.log.LogAttrs(ctx, slog.LevelInfo, "call",
		slog.String("caller", at.caller.name), slog.String("role", words.Of(at.caller.role)), slog.String("from", p.Addr.String()),
		slog.String("method", path), slog.String("status", status.Code(err).String()), slog.Duration("took", time.Since(begin)))
	return err
}

// carry passes one call on to its daemon and the answer back.
func (g *gateway) carry(s grpc.ServerStream, r *route, at *session) error {
	switch {
	case r.method.ServerStream:
		return g.download(s, r, at)
	case r.method.ClientStream:
		return g.upload(s, r, at)
	}
	request, err := g.receive(s, at)
	if err != nil {
		return err
	}
	if at.member == nil {
		if err := g.beginAnonymous(s.Context(), at); err != nil {
			return err
		}
		defer g.endAnonymous(at)
	}
	response := ipc.Raw(nil)
	if err := r.conn.Invoke(s.Context(), &r.method, request, response); err != nil {
		return err
	}
	if r.role == auth.Role_ROLE_ANYONE {
		g.claimed()
	}
	return s.SendMsg(&frame{ipc.RawBytes(response)})
}

// beginAnonymous waits until an anonymous client's call may be carried.
func (g *gateway) beginAnonymous(ctx context.Context, at *session) error {
	select {
	case g.carrying <- struct{}{}:
		g.gate.busy(at.conn, 1)
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func (g *gateway) endAnonymous(at *session) {
	g.gate.busy(at.conn, -1)
	<-g.carrying
}

// download carries one request and any number of answers. It ends when the
// process does: it may be one that never ends by itself.
func (g *gateway) download(s grpc.ServerStream, r *route, at *session) error {
	request, err := g.receive(s, at)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	defer context.AfterFunc(g.ending, cancel)()
	from, err := r.conn.Open(ctx, &r.method, request)
	for err == nil {
		response := ipc.Raw(nil)
		if err = from.RecvMsg(response); err == nil {
			err = s.SendMsg(&frame{ipc.RawBytes(response)})
		}
	}
	return g.streamEnd(s, err)
}

// upload carries any number of messages and one answer.
func (g *gateway) upload(s grpc.ServerStream, r *route, at *session) error {
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	to, err := r.conn.Open(ctx, &r.method, nil)
	if err != nil {
		return err
	}
	for {
		in, err := g.next(s, at)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if to.SendMsg(in) != nil {
			break // the daemon has enough; its answer says why
		}
	}
	response := ipc.Raw(nil)
	to.CloseSend() // a daemon that has answered already does not hear it
	if err := to.RecvMsg(response); err != nil {
		return g.streamEnd(s, err)
	}
	return s.SendMsg(&frame{ipc.RawBytes(response)})
}

// streamEnd says how a stream has ended, in this order of interest: the caller
// went away, we go away, the daemon said so.
func (g *gateway) streamEnd(s grpc.ServerStream, err error) error {
	switch {
	case err == io.EOF:
		return nil
	case s.Context().Err() != nil:
		return status.FromContextError(s.Context().Err()).Err()
	case g.ending.Err() != nil:
		return status.Error(codes.Unavailable, "the gateway is being replaced: call again")
	}
	return err
}

// receive returns the one message of a request.
func (g *gateway) receive(s grpc.ServerStream, at *session) (proto.Message, error) {
	m, err := g.next(s, at)
	if err == io.EOF {
		return nil, status.Error(codes.InvalidArgument, "no request message")
	}
	return m, err
}

// next returns the caller's next message.
func (g *gateway) next(s grpc.ServerStream, at *session) (proto.Message, error) {
	in := new(frame)
	if err := g.receiveInto(s, at, in); err != nil {
		return nil, err
	}
	return ipc.Raw(in.b), nil
}

// receiveInto receives one message, unless it takes too long: the stream's end then ends the
// goroutine as well.
func (g *gateway) receiveInto(s grpc.ServerStream, at *session, m any) error {
	within := g.within.ofMember
	if at.member == nil {
		within = g.within.ofAnonymous
	}
	arrived := make(chan error, 1)
	go func() { arrived <- s.RecvMsg(m) }()
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case err := <-arrived:
		return err
	case <-late.C:
		return status.Errorf(codes.DeadlineExceeded, "the request did not arrive within %v", within)
	}
}
