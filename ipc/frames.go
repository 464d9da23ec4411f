package ipc

import (
	"encoding/binary"
	"sync"
)

// ttrpc's frame: 4 bytes length of the payload, 4 bytes stream, 1 byte type,
// 1 byte flags, all big-endian, then the payload. See PROTOCOL.md of ttrpc.
const frameHeaderBytes = 10

const (
	frameRequest  = 1
	frameResponse = 2
	frameData     = 3

	flagRemoteClosed = 1
)

// frames follows one direction of a ttrpc connection, in whatever pieces it
// comes, and calls done for each frame that is complete.
type frames struct {
	header [frameHeaderBytes]byte
	have   int    // bytes of header seen
	left   uint32 // bytes of payload still to come
}

func (f *frames) feed(b []byte, done func(stream uint32, kind, flags byte)) {
	for len(b) > 0 {
		if f.have < frameHeaderBytes {
			n := copy(f.header[f.have:], b)
			f.have += n
			b = b[n:]
			if f.have < frameHeaderBytes {
				return
			}
			f.left = binary.BigEndian.Uint32(f.header[:4])
		}
		n := min(uint64(f.left), uint64(len(b)))
		f.left -= uint32(n)
		b = b[n:]
		if f.left == 0 {
			f.have = 0
			done(binary.BigEndian.Uint32(f.header[4:8]), f.header[8], f.header[9])
		}
	}
}

// exchange counts the calls of one connection that are asked and not yet
// answered, and lets others wait for that count to change.
type exchange struct {
	mu      sync.Mutex
	changed sync.Cond // on every change of open
	open    map[uint32]struct{}
	asked   frames
	told    frames
}

func newExchange() *exchange {
	e := &exchange{open: map[uint32]struct{}{}}
	e.changed.L = &e.mu
	return e
}

// ask takes bytes on their way from the client to the server.
func (e *exchange) ask(b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked.feed(b, func(stream uint32, kind, _ byte) {
		if kind == frameRequest {
			e.open[stream] = struct{}{}
		}
	})
}

// tell takes bytes on their way from the server to the client.
func (e *exchange) tell(b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told.feed(b, func(stream uint32, kind, flags byte) {
		if kind == frameResponse || kind == frameData && flags&flagRemoteClosed != 0 {
			delete(e.open, stream)
			e.changed.Broadcast()
		}
	})
}
