package ipc

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Raw returns a message that is marshalled as exactly b: the gateway carries
// messages without knowing their types.
func Raw(b []byte) proto.Message {
	m := new(emptypb.Empty)
	m.ProtoReflect().SetUnknown(b)
	return m
}

// RawBytes returns the bytes that a message made by Raw(nil) was filled with.
func RawBytes(m proto.Message) []byte { return m.ProtoReflect().GetUnknown() }
