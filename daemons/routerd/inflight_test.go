package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"

	"github.com/dactyl-os/dactyl/ipc/auth"
)

// rawClient speaks HTTP/2 without gRPC's good manners.
type rawClient struct {
	conn    net.Conn
	framer  *http2.Framer
	headers bytes.Buffer
}

func (f *fixture) raw(t *testing.T, certificate *tls.Certificate) *rawClient {
	t.Helper()
	c, err := tls.Dial("tcp", f.address, f.clientConfig(certificate))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, http2.ClientPreface)
	out := &rawClient{conn: c, framer: http2.NewFramer(c, c)}
	out.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	out.framer.WriteSettings()
	return out
}

// begin opens stream 1 with a message of length bytes, of which it sends only a part.
func (c *rawClient) begin(t *testing.T, path string, length, send int) {
	t.Helper()
	e := hpack.NewEncoder(&c.headers)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headers.Bytes(), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	data := message(length)[:send]
	for len(data) > 0 {
		n := min(len(data), 1000)
		if err := c.framer.WriteDataPadded(1, false, data[:n], make([]byte, n%7)); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
}

// message is a gRPC message with its header.
func message(length int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(length)), make([]byte, length)...)
}

// status reads to the end of stream 1 and returns how it ended.
func (c *rawClient) status(t *testing.T) codes.Code {
	t.Helper()
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok && h.StreamEnded() {
			for _, field := range h.Fields {
				if field.Name == "grpc-status" {
					n, _ := strconv.Atoi(field.Value)
					return codes.Code(n)
				}
			}
			t.Fatalf("no grpc-status in %v", h.Fields)
		}
	}
}

// script is one direction of a connection, from memory, in pieces of random sizes.
type script struct {
	remote
	b []byte
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 1+rand.IntN(3000))], s.b)
	s.b = s.b[n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error) { return len(b), nil }

// Whatever the pieces in which the frames come, the places of large messages are taken
// where these begin, and given back where their streams end.
func TestFollowFrames(t *testing.T) {
	var in, ends, all bytes.Buffer
	write := http2.NewFramer(&all, nil)
	in.WriteString(http2.ClientPreface)
	send := func(id uint32, data []byte, padding int) {
		for len(data) > 0 {
			n := min(len(data), 1+rand.IntN(16000))
			write.WriteDataPadded(id, false, data[:n], make([]byte, padding))
			data = data[n:]
		}
	}
	write.WriteSettings()
	write.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("x"), EndHeaders: true})
	send(1, bytes.Join([][]byte{message(0), message(smallMessage), message(3)}, nil), 5)
	write.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte("x"), EndHeaders: true})
	send(3, append(message(9), message(smallMessage+1)...), 0)
	send(3, message(1 << 20)[:4], 200) // the beginning of a header
	write.WritePing(false, [8]byte{})
	write.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: []byte("x"), EndHeaders: true})
	send(5, message(5 << 20)[:100], 0) // gRPC refuses it
	send(7, message(1 << 20)[:100], 0) // no such stream
	write.WriteHeaders(http2.HeadersFrameParam{StreamID: 9, BlockFragment: []byte("x"), EndHeaders: true})
	send(9, message(1 << 20)[:70000], 1)
	io.Copy(&in, &all)
	for range 20 {
		l := newLimits()
		m := l.join(certificateKey{}, auth.Role_ROLE_ADMIN)
		c := newMemberConn(&script{b: in.Bytes()}, l, m)
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Fatal(err)
		}
		if l.used.large != 2 || !c.streams[3].large || !c.streams[9].large || c.streams[1].large || c.streams[5].large || len(c.streams) != 4 {
			t.Fatalf("%d places of large messages: %+v", l.used.large, c.streams)
		}
		write := http2.NewFramer(&ends, nil)
		write.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte("answer"), EndHeaders: true})
		write.WriteData(3, false, make([]byte, 10000))
		pieces := func() {
			for b := ends.Bytes(); len(b) > 0; {
				n := min(len(b), 1+rand.IntN(50))
				c.Write(b[:n])
				b = b[n:]
			}
			ends.Reset()
		}
		if pieces(); l.used.large != 2 {
			t.Error("a place is given back before its stream has ended")
		}
		write.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte("end"), EndHeaders: true, EndStream: true})
		write.WriteRSTStream(1, http2.ErrCodeCancel)
		if pieces(); l.used.large != 1 || len(c.streams) != 2 {
			t.Errorf("%d places after a stream's end, %d streams", l.used.large, len(c.streams))
		}
		if c.Close(); l.used.large != 0 || len(c.streams) != 0 {
			t.Errorf("%d places after the connection's end", l.used.large)
		}
	}
}

// Streams that are opened again and again cost no memory.
func TestManyStreams(t *testing.T) {
	var in bytes.Buffer
	in.WriteString(http2.ClientPreface)
	write := http2.NewFramer(&in, nil)
	for i := range 2 * maxTracked {
		write.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: []byte("x"), EndHeaders: true})
	}
	l := newLimits()
	c := newMemberConn(&script{b: in.Bytes()}, l, l.join(certificateKey{}, auth.Role_ROLE_ADMIN))
	if _, err := io.Copy(io.Discard, c); err == nil || len(c.streams) > maxTracked+3000 {
		t.Errorf("%d streams are followed: %v", len(c.streams), err)
	}
}
