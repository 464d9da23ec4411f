package ipc

import (
	"context"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
)

// MaxMessageBytes is the largest message either side accepts; it is ttrpc's own limit.
const MaxMessageBytes = 4 << 20

// A Method names one RPC and what a caller must know to carry it.
type Method struct {
	Service      string // dactyl.network.v1.Network
	Name         string // ListLinks
	Idempotent   bool   // may be sent again when its answer was lost
	ClientStream bool
	ServerStream bool
}

// Path returns the method as gRPC writes it: /dactyl.network.v1.Network/ListLinks.
func (m *Method) Path() string { return "/" + m.Service + "/" + m.Name }

// Conn carries calls to one peer. Peer is one over ttrpc; the dactyl command
// has one over gRPC.
type Conn interface {
	// Invoke sends request and fills response. Errors are gRPC statuses.
	Invoke(ctx context.Context, m *Method, request, response proto.Message) error
	// Open starts a stream. request is the only message of a server stream and
	// nil for a client stream. The stream lives until it ends or ctx does.
	Open(ctx context.Context, m *Method, request proto.Message) (Stream, error)
}

// Stream is one open streaming call as its client sees it.
type Stream interface {
	SendMsg(message any) error
	RecvMsg(message any) error // io.EOF at the end
	CloseSend() error
}

// Registrar is what a generated Register function adds its service to.
type Registrar interface {
	RegisterService(name string, desc *ttrpc.ServiceDesc)
}

// A Sender is the sending end of a stream of M.
type Sender[M proto.Message] interface {
	Send(M) error
}

// A Receiver is the receiving end of a stream of M. Recv ends with io.EOF.
type Receiver[M proto.Message] interface {
	Recv() (M, error)
}

type sender[M proto.Message] struct {
	to interface{ SendMsg(any) error }
}

func (s sender[M]) Send(m M) error { return s.to.SendMsg(m) }

// SenderOf makes a typed Sender of the stream that ttrpc hands a handler.
func SenderOf[M proto.Message](to interface{ SendMsg(any) error }) Sender[M] {
	return sender[M]{to}
}

type receiver[M proto.Message] struct {
	from interface{ RecvMsg(any) error }
	make func() M
}

func (r receiver[M]) Recv() (M, error) {
	m := r.make()
	if err := r.from.RecvMsg(m); err != nil {
		var none M
		return none, err
	}
	return m, nil
}

// ReceiverOf makes a typed Receiver; make returns a new, empty M.
func ReceiverOf[M proto.Message](from interface{ RecvMsg(any) error }, make func() M) Receiver[M] {
	return receiver[M]{from, make}
}

// Upload is the client's end of a client stream: any number of Send, then one
// CloseAndReceive.
type Upload[In, Out proto.Message] struct {
	stream   Stream
	response Out
}

// UploadOf makes a typed Upload that puts the answer into response.
func UploadOf[In, Out proto.Message](s Stream, response Out) *Upload[In, Out] {
	return &Upload[In, Out]{s, response}
}

// Send sends one message. An error means that the server takes no more;
// CloseAndReceive says why.
func (u *Upload[In, Out]) Send(m In) error { return u.stream.SendMsg(m) }

// CloseAndReceive says that all is sent and waits for the answer.
func (u *Upload[In, Out]) CloseAndReceive() (Out, error) {
	var none Out
	u.stream.CloseSend() // a server that has answered already does not hear it
	if err := u.stream.RecvMsg(u.response); err != nil {
		return none, err
	}
	return u.response, nil
}
