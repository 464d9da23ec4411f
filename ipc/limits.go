package ipc

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Limits bound what one caller can have of a server's memory.
type Limits struct {
	MessageBytes int // of one message that comes in, with its envelope; ttrpc allocates that much when its first bytes have come
	Calls        int // in progress on one connection; further ones wait in the socket
	Connections  int // of one caller; further ones are closed. 0 is no limit
}

// defaultLimits are those of daemons, which their cgroups bound as well.
var defaultLimits = Limits{MessageBytes: MaxMessageBytes, Calls: 64}

// Limit sets other limits than the default ones. It must be called before Listen.
func (s *Server) Limit(l Limits) { s.limits = l }

// admit counts a connection of a caller that has n, unless it is one too many.
func (l Limits) admit(n int) bool { return l.Connections == 0 || n < l.Connections }

// Wait calls wait, and meanwhile another call may have the handler's place: a server works on few
// calls at a time, and those that wait for something outside must not hold up all others. ctx is a handler's.
func Wait(ctx context.Context, wait func()) {
	conn, ok := ctx.Value(connKey{}).(*servedConn)
	if !ok || ctx.Value(streamKey{}) != nil { // not called by a server, or not a unary call
		wait()
		return
	}
	<-conn.s.handlers
	defer func() { conn.s.handlers <- struct{}{} }()
	wait()
}

// tooLarge is the method that answers for a request that is too large. It has a name that no .proto can
// give to a method.
const tooLarge = "\x00too large"

// refuseTooLarge answers for requests that are too large.
func (l Limits) refuseTooLarge(context.Context, func(any) error) (any, error) {
	return nil, status.Errorf(codes.ResourceExhausted, "the request is too large: a message to this service has at most %d bytes", l.MessageBytes)
}

// sizedReader reads ttrpc's frames. It drops the content of a request that is larger than the
// server takes and puts a call of tooLarge in its place, so that ttrpc allocates nothing, the caller has an answer, and
// other calls of the connection go on.
type sizedReader struct {
	from    *bufio.Reader
	limit   uint32
	service string // one that the server has

	ahead []byte // what is read before the rest
	left  uint32 // bytes of the current frame's payload that are still to come
	frame [frameHeaderBytes]byte
}

// headerBufferBytes is the size of sizedReader's buffer: large reads go past it.
const headerBufferBytes = 512

func newSizedReader(r io.Reader, limit int, service string) *sizedReader {
	return &sizedReader{from: bufio.NewReaderSize(r, headerBufferBytes), limit: uint32(limit), service: service}
}

// Read implements io.Reader.
func (r *sizedReader) Read(b []byte) (int, error) {
	if len(r.ahead) == 0 && r.left == 0 {
		if err := r.begin(); err != nil {
			return 0, err
		}
	}
	if len(r.ahead) > 0 {
		n := copy(b, r.ahead)
		r.ahead = r.ahead[n:]
		return n, nil
	}
	n, err := r.from.Read(b[:min(uint32(len(b)), r.left)])
	r.left -= uint32(n)
	return n, err
}

// begin reads a frame's header.
func (r *sizedReader) begin() error {
	if _, err := io.ReadFull(r.from, r.frame[:]); err != nil {
		return err
	}
	length, kind := binary.BigEndian.Uint32(r.frame[:4]), r.frame[8]
	if length <= r.limit {
		r.ahead, r.left = r.frame[:], length
		return nil
	}
	if kind != frameRequest {
		// ttrpc closes a connection for this error alone.
		return fmt.Errorf("a message of %d bytes in a stream: at most %d: %w", length, r.limit, io.ErrUnexpectedEOF)
	}
	if _, err := io.CopyN(io.Discard, r.from, int64(length)); err != nil {
		return err
	}
	request, err := proto.Marshal(&ttrpc.Request{Service: r.service, Method: tooLarge})
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(r.frame[:4], uint32(len(request)))
	r.ahead = append(r.frame[:], request...)
	return nil
}
