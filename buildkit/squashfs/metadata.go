package squashfs

import (
	"context"
	"encoding/binary"
)

const (
	metadataSize         = 8 << 10 // bytes before compression in every metadata block but the last
	metadataUncompressed = 1 << 15 // in the block's 16-bit header
)

// metadata is a stream of inodes, directory entries or table entries, cut into
// compressed blocks of metadataSize.
type metadata struct {
	ctx  context.Context
	comp *compressor
	out  []byte
	buf  []byte
	err  error
}

// position is where the next byte will be found: the start of its block in the
// compressed stream and the offset in the uncompressed block.
type position struct {
	block  uint32
	offset uint16
}

func (m *metadata) position() position {
	return position{uint32(len(m.out)), uint16(len(m.buf))}
}

func (m *metadata) write(b []byte) {
	m.buf = append(m.buf, b...)
	for len(m.buf) >= metadataSize {
		m.flush(metadataSize)
	}
}

// close ends the stream and returns all of it.
func (m *metadata) close() ([]byte, error) {
	if len(m.buf) > 0 {
		m.flush(len(m.buf))
	}
	return m.out, m.err
}

func (m *metadata) flush(n int) {
	packed, err := m.comp.compress(m.ctx, m.buf[:n])
	if err != nil && m.err == nil {
		m.err = err
	}
	header := uint16(len(packed))
	if packed == nil {
		packed, header = m.buf[:n], uint16(n)|metadataUncompressed
	}
	m.out = binary.LittleEndian.AppendUint16(m.out, header)
	m.out = append(m.out, packed...)
	m.buf = append([]byte(nil), m.buf[n:]...)
}
