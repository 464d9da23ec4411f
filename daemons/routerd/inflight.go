package main

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/dactyl-os/dactyl/ipc"
)

const (
	// smallMessage is the largest message that may come in at any time. A stream's window
	// lets a client send that much anyway.
	smallMessage = streamWindow
	// stalledAfter is how long a large message may be incomplete before its connection is closed.
	// The handler's own limit, arriveWithin, ends a call sooner if it waits for the message.
	stalledAfter = 2 * time.Minute
	// maxTracked bounds the streams that a connection is followed in. gRPC refuses those
	// beyond maxStreams, but a client may open many before it reads of that.
	maxTracked = 4096
)

// HTTP/2's frame (RFC 9113, section 4): 3 bytes length of the payload, 1 byte type, 1 byte flags, 4
// bytes stream, then the payload. In DATA frames of a stream, gRPC's messages follow one another,
// each with 1 byte flags and 4 bytes length before it.
const (
	frameHeaderBytes   = 9
	messageHeaderBytes = 5
	prefaceBytes       = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

	frameData    = 0
	frameHeaders = 1
	frameReset   = 3

	flagEndStream = 1
	flagPadded    = 8
)

// frames follows one direction of an HTTP/2 connection, in whatever pieces it comes.
type frames struct {
	header [frameHeaderBytes]byte
	have   int // bytes of header that have come
	left   int // bytes of payload that are still to come
}

// next takes from b what is left of the current frame's header, or of its payload. began
// reports that the header is complete now; only then and until the next call may it be read.
func (f *frames) next(b []byte) (payload, rest []byte, began bool) {
	if f.have == frameHeaderBytes {
		n := min(f.left, len(b))
		if f.left -= n; f.left == 0 {
			f.have = 0
		}
		return b[:n], b[n:], false
	}
	n := copy(f.header[f.have:], b)
	if f.have += n; f.have < frameHeaderBytes {
		return nil, b[n:], false
	}
	if f.left = f.length(); f.left == 0 {
		f.have = 0
	}
	return nil, b[n:], true
}

func (f *frames) length() int     { return int(f.header[0])<<16 | int(f.header[1])<<8 | int(f.header[2]) }
func (f *frames) kind() byte      { return f.header[3] }
func (f *frames) has(b byte) bool { return f.header[4]&b != 0 }
func (f *frames) stream() uint32  { return binary.BigEndian.Uint32(f.header[5:]) &^ (1 << 31) }

// incoming is the message that comes in on a stream.
type incoming struct {
	have  uint8  // bytes of its header that have come
	left  uint32 // its length, of which that much is still to come
	large bool   // the stream has the place of a large message
}

// take follows data, which is the stream's. It reports whether a large message has begun
// and one has ended.
func (m *incoming) take(data []byte) (began, ended bool) {
	for len(data) > 0 {
		if m.have < messageHeaderBytes {
			if m.have > 0 {
				m.left = m.left<<8 | uint32(data[0])
			}
			m.have++
			data = data[1:]
			if m.have == messageHeaderBytes && m.left > smallMessage && m.left <= ipc.MaxMessageBytes { // gRPC refuses larger ones
				began, ended = true, false
			}
		}
		if m.have == messageHeaderBytes {
			n := min(m.left, uint32(len(data)))
			m.left -= n
			data = data[n:]
			if m.left == 0 {
				*m = incoming{large: m.large}
				ended = true
			}
		}
	}
	return began, ended
}

// memberConn is a connection with a valid certificate. It follows what comes in, so that a large
// message waits in the client and in the network until there is memory for it: memberConn
// does not read on meanwhile. A stream keeps its place until it ends, because
// its message is the gateway's until then.
type memberConn struct {
	net.Conn
	limits *limits
	member *member

	preface int    // bytes of the client's preface that are still to come
	in, out frames // in and data are the reader's alone, out the writer's
	data    dataFrame

	mu      sync.Mutex // guards what follows
	streams map[uint32]incoming
	last    uint32 // highest stream so far
	waits   uint32 // the stream whose large message waits; 0 is none
	stop    chan struct{}
	stalled *time.Timer // closes the connection; runs while a large message is incomplete
	closed  bool
}

// dataFrame is where in a DATA frame its reader is.
type dataFrame struct {
	padded bool // the length of the padding comes next
	left   int  // bytes of data, without padding, still to come
}

func newMemberConn(c net.Conn, l *limits, m *member) *memberConn {
	conn := &memberConn{Conn: c, limits: l, member: m, preface: prefaceBytes, streams: map[uint32]incoming{}}
	conn.stalled = time.AfterFunc(time.Hour, func() { conn.Close() })
	conn.stalled.Stop()
	return conn
}

// Read implements net.Conn.
func (c *memberConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	skip := min(c.preface, n)
	c.preface -= skip
	for rest := b[skip:n]; len(rest) > 0; {
		var large uint32
		var trouble error
		large, rest, trouble = c.follow(rest)
		if large != 0 {
			trouble = c.wait(large)
		}
		if trouble != nil {
			return 0, trouble
		}
	}
	return n, err
}

// follow follows b to the first place where a large message begins, and returns its stream.
func (c *memberConn) follow(b []byte) (large uint32, rest []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(b) > 0 {
		payload, rest, began := c.in.next(b)
		b = rest
		if began {
			c.beginLocked()
			continue
		}
		if data := c.data.strip(payload); len(data) > 0 && c.takeLocked(c.in.stream(), data) {
			return c.in.stream(), b, nil
		}
	}
	if len(c.streams) > maxTracked {
		return 0, nil, errors.New("too many streams")
	}
	return 0, nil, nil
}

// beginLocked looks at a frame's header.
func (c *memberConn) beginLocked() {
	id := c.in.stream()
	c.data = dataFrame{}
	switch c.in.kind() {
	case frameHeaders:
		if id > c.last {
			c.last = id
			c.streams[id] = incoming{}
		}
	case frameData:
		c.data = dataFrame{padded: c.in.has(flagPadded), left: c.in.length()}
	case frameReset:
		c.endLocked(id)
	}
}

// strip returns the data in the payload of a DATA frame.
func (d *dataFrame) strip(payload []byte) []byte {
	if d.padded && len(payload) > 0 {
		d.padded = false
		d.left -= 1 + int(payload[0])
		payload = payload[1:]
	}
	n := max(0, min(d.left, len(payload)))
	d.left -= n
	return payload[:n]
}

// takeLocked follows data of a stream, and reports whether it has to wait.
func (c *memberConn) takeLocked(id uint32, data []byte) (wait bool) {
	m, open := c.streams[id]
	if !open {
		return false // late: the call is over
	}
	began, ended := m.take(data)
	c.streams[id] = m
	switch {
	case began && !m.large:
		c.waits, c.stop = id, make(chan struct{})
		return true
	case began:
		c.stalled.Reset(stalledAfter)
	case ended && m.large:
		c.restLocked(id)
	}
	return false
}

// restLocked says that the large message on the stream is no longer incomplete.
func (c *memberConn) restLocked(id uint32) {
	for other, m := range c.streams {
		if m.large && other != id {
			c.stalled.Reset(stalledAfter)
			return
		}
	}
	c.stalled.Stop()
}

// wait returns when the large message on the stream may come in, or the stream has ended.
func (c *memberConn) wait(id uint32) error {
	taken := c.limits.takeLarge(c.member, c.stop)
	c.mu.Lock()
	defer c.mu.Unlock()
	m, open := c.streams[id]
	c.waits = 0
	switch {
	case taken && open && !c.closed:
		m.large = true
		c.streams[id] = m
		c.stalled.Reset(stalledAfter)
	case taken:
		c.limits.giveLarge(c.member)
	}
	if c.closed {
		return net.ErrClosed
	}
	return nil
}

// Write implements net.Conn.
func (c *memberConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	for rest := b; len(rest) > 0; {
		var began bool
		_, rest, began = c.out.next(rest)
		if kind := c.out.kind(); began && (kind == frameReset || kind <= frameHeaders && c.out.has(flagEndStream)) {
			c.endLocked(c.out.stream())
		}
	}
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// endLocked forgets a stream.
func (c *memberConn) endLocked(id uint32) {
	m, open := c.streams[id]
	if !open {
		return
	}
	delete(c.streams, id)
	if m.large {
		c.restLocked(id)
		c.limits.giveLarge(c.member)
	}
	if c.waits == id {
		c.waits = 0
		close(c.stop)
	}
}

// Close implements net.Conn.
func (c *memberConn) Close() error {
	c.mu.Lock()
	c.closed = true
	for id := range c.streams {
		c.endLocked(id)
	}
	c.stalled.Stop()
	c.mu.Unlock()
	return c.Conn.Close()
}
