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
)

// gateway admits calls, carries them and writes them down.
type gateway struct {
	table table
	now   func() time.Time
	log   *slog.Logger

	claimed   func() // a call that proves its caller's right by itself has succeeded
	arriving  *arrivals
	strangers trickle         // lets through a few of strangers' lines
	ending    context.Context // done when the process is to finish
}

// admit finds where a call goes and checks that its caller may make it.
func (g *gateway) admit(path string, s *session) (*route, error) {
	r, ok := g.table[path]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "%s: no such method can be called on this machine", path)
	}
	return r, s.caller.may(path, r.role, g.now())
}

// streams intercepts every call but the gateway's own unary ones.
func (g *gateway) streams(service any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return g.logged(s.Context(), info.FullMethod, func(at *session) error {
		r, err := g.admit(info.FullMethod, at)
		if err != nil {
			return err
		}
		if r.conn == nil {
			return handle(service, s)
		}
		return g.carry(s, r, at.caller.name)
	})
}

// unary intercepts the gateway's own unary calls: health.
func (g *gateway) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (response any, err error) {
	err = g.logged(ctx, info.FullMethod, func(at *session) error {
		if _, err := g.admit(info.FullMethod, at); err != nil {
			return err
		}
		response, err = handle(ctx, request)
		return err
	})
	return response, err
}

// unrouted is what grpc wants for services that it does not know; streams has
// taken them all.
func (g *gateway) unrouted(any, grpc.ServerStream) error { panic("BUG: a call passed the interceptor") }

// logged makes the call and writes it down.
func (g *gateway) logged(ctx context.Context, path string, call func(*session) error) error {
	p, _ := peer.FromContext(ctx)
	at := p.AuthInfo.(*session)
	begin := time.Now()
	err := call(at)
	if at.caller.refusal != nil && !g.strangers.pass(g.log) {
		return err
	}
	g.log.LogAttrs(ctx, slog.LevelInfo, "call",
		slog.String("caller", at.caller.name), slog.String("role", string(at.caller.role)), slog.String("from", p.Addr.String()),
		slog.String("method", path), slog.String("status", status.Code(err).String()), slog.Duration("took", time.Since(begin)))
	return err
}

// carry passes one call on to its daemon and the answer back.
func (g *gateway) carry(s grpc.ServerStream, r *route, caller string) error {
	switch {
	case r.method.ServerStream:
		return g.download(s, r, caller)
	case r.method.ClientStream:
		return g.upload(s, r, caller)
	}
	request, err := g.receive(s, caller)
	if err != nil {
		return err
	}
	response := ipc.Raw(nil)
	if err := r.conn.Invoke(s.Context(), &r.method, request, response); err != nil {
		return err
	}
	if r.role == anyone {
		g.claimed()
	}
	return s.SendMsg(&frame{ipc.RawBytes(response)})
}

// download carries one request and any number of answers. It ends when the
// process does: it may be one that never ends by itself.
func (g *gateway) download(s grpc.ServerStream, r *route, caller string) error {
	request, err := g.receive(s, caller)
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
func (g *gateway) upload(s grpc.ServerStream, r *route, caller string) error {
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	to, err := r.conn.Open(ctx, &r.method, nil)
	if err != nil {
		return err
	}
	for {
		in, err := g.next(s, caller)
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
func (g *gateway) receive(s grpc.ServerStream, caller string) (proto.Message, error) {
	m, err := g.next(s, caller)
	if err == io.EOF {
		return nil, status.Error(codes.InvalidArgument, "no request message")
	}
	return m, err
}

// next returns the caller's next message.
func (g *gateway) next(s grpc.ServerStream, caller string) (proto.Message, error) {
	in := new(frame)
	if err := g.arriving.receive(s.Context(), caller, func() error { return s.RecvMsg(in) }); err != nil {
		return nil, err
	}
	return ipc.Raw(in.b), nil
}
