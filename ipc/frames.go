package ipc

import "encoding/binary"

// ttrpc's frame: 4 bytes length of the payload, 4 bytes stream, 1 byte type,
// 1 byte flags, all big-endian, then the payload. See PROTOCOL.md of ttrpc.
const frameHeaderBytes = 10

const (
	frameRequest  = 1
	frameResponse = 2
	frameData     = 3

	flagRemoteClosed = 1
	flagNoData       = 4
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

// begins and ends tell what a complete frame does to a call.
func begins(kind byte) bool { return kind == frameRequest }

func ends(kind, flags byte) bool {
	return kind == frameResponse || kind == frameData && flags&flagRemoteClosed != 0
}

// carries tells whether a frame is a message of a stream after its first.
func carries(kind, flags byte) bool { return kind == frameData && flags&flagNoData == 0 }
