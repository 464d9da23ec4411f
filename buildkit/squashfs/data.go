package squashfs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	noFragment   = 1<<32 - 1
	uncompressed = 1 << 24 // in a data block's size word
)

// missCount counts the bytes that the cache did not have.
type missCount struct{ n atomic.Int64 }

func (m *missCount) add(n int) { m.n.Add(int64(n)) }

// data says where a regular file's content lies.
type data struct {
	size     int64
	start    int64    // of its first block in the image
	words    []uint32 // one size word per block
	fragment uint32   // index of the fragment block that holds it, or noFragment
	offset   uint32   // in that fragment
}

// block is one stretch of bytes to compress.
type block struct {
	path   string // read from here …
	off    int64
	raw    []byte // … unless the bytes are already at hand
	size   int
	packed []byte // what goes into the image
	word   uint32 // its size word; 0 = all zeros, nothing stored
}

// packer lays out the contents of files.
type packer struct {
	opts      Options
	comp      *compressor
	seen      map[[32]byte]*data // whole files by content: equal files are stored once
	files     []*data
	blocks    [][]*block // per entry of files
	fragments []*block
}

// add takes a regular file in. A file shorter than a block shares a fragment with
// its neighbours: compressed together they are smaller.
func (p *packer) add(n *node) error {
	sum, err := hashFile(n.path)
	if err != nil {
		return err
	}
	if d := p.seen[sum]; d != nil {
		n.data = d
		return nil
	}
	d := &data{size: n.info.Size(), fragment: noFragment}
	n.data, p.seen[sum] = d, d
	if d.size < int64(p.opts.BlockSize) {
		return p.addFragment(d, n.path)
	}
	var blocks []*block
	for off := int64(0); off < d.size; off += int64(p.opts.BlockSize) {
		size := min(int64(p.opts.BlockSize), d.size-off)
		blocks = append(blocks, &block{path: n.path, off: off, size: int(size)})
	}
	p.files, p.blocks = append(p.files, d), append(p.blocks, blocks)
	return nil
}

func (p *packer) addFragment(d *data, path string) error {
	if d.size == 0 {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	last := len(p.fragments) - 1
	if last < 0 || len(p.fragments[last].raw)+len(raw) > p.opts.BlockSize {
		p.fragments = append(p.fragments, &block{})
		last++
	}
	b := p.fragments[last]
	d.fragment, d.offset = uint32(last), uint32(len(b.raw))
	b.raw = append(b.raw, raw...)
	b.size = len(b.raw)
	return nil
}

// compress packs all blocks, several at once.
func (p *packer) compress(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan *block)
	var workers sync.WaitGroup
	for range p.jobs() {
		workers.Go(func() {
			for b := range jobs {
				if err := p.pack(ctx, b); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, list := range append(p.blocks, p.fragments) {
		for _, b := range list {
			jobs <- b
		}
	}
	close(jobs)
	workers.Wait()
	return context.Cause(ctx)
}

func (p *packer) jobs() int {
	if p.opts.Jobs > 0 {
		return p.opts.Jobs
	}
	return runtime.NumCPU()
}

func (p *packer) pack(ctx context.Context, b *block) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	raw, err := b.read()
	if err != nil {
		return err
	}
	b.raw = nil
	if b.path != "" && allZero(raw) {
		return nil
	}
	packed, err := p.comp.compress(ctx, raw)
	if err != nil {
		return err
	}
	b.packed, b.word = packed, uint32(len(packed))
	if packed == nil {
		b.packed, b.word = raw, uint32(len(raw))|uncompressed
	}
	return nil
}

func (b *block) read() ([]byte, error) {
	if b.raw != nil {
		return b.raw, nil
	}
	f, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := make([]byte, b.size)
	_, err = f.ReadAt(raw, b.off)
	return raw, err
}

// write puts the packed blocks into the image, files first, and returns the
// fragment table's entries.
func (p *packer) write(w *image) (fragments []byte) {
	for i, d := range p.files {
		d.start = w.size()
		for _, b := range p.blocks[i] {
			w.append(b.packed)
			d.words = append(d.words, b.word)
		}
	}
	for _, b := range p.fragments {
		fragments = binary.LittleEndian.AppendUint64(fragments, uint64(w.size()))
		fragments = binary.LittleEndian.AppendUint32(fragments, b.word)
		fragments = binary.LittleEndian.AppendUint32(fragments, 0)
		w.append(b.packed)
	}
	return fragments
}

func hashFile(path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), err
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
