package squashfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/bits"
	"os"
)

const (
	magic          = 0x73717368
	superblockSize = 96
	compressionID  = 6 // zstd
	absent         = 1<<64 - 1

	flagDuplicates = 0x0040 // equal files are stored once
	flagNoXattrs   = 0x0200
	flagOptions    = 0x0400 // the compressor's options follow the superblock

	// padding lets the image be used as a block device and the verity tree follow it.
	padding = 4096
)

// superblock is the image's first 96 bytes, little-endian.
type superblock struct {
	Magic, Inodes, Time, BlockSize, Fragments       uint32
	Compression, BlockLog, Flags, IDs, Major, Minor uint16
	Root                                            uint64 // position of the root's inode: block<<16 | offset
	Size, IDTable, XattrTable, InodeTable, DirTable uint64
	FragmentTable, ExportTable                      uint64
}

// image is the file being built. It is held in memory: an image is at most 80 MB.
type image struct{ b []byte }

func (i *image) append(b []byte) { i.b = append(i.b, b...) }
func (i *image) size() int64     { return int64(len(i.b)) }

// Stats tell what an image cost.
type Stats struct {
	Files      int   // of all kinds
	Bytes      int64 // of the image
	Compressed int64 // bytes that had to be compressed because the cache did not have them
}

// Write makes an image of the directory root in the file out, which is replaced.
// The image is a multiple of 4096 bytes. Errors name the file of root at fault: one
// that cannot be read, or of a kind that does not belong into an image.
func Write(ctx context.Context, root, out string, opts Options) (Stats, error) {
	if err := opts.check(); err != nil {
		return Stats{}, err
	}
	nodes, err := scan(root)
	if err != nil {
		return Stats{}, err
	}
	comp, err := newCompressor(ctx, opts.Cache, opts.Level)
	if err != nil {
		return Stats{}, err
	}
	b, err := build(ctx, nodes, comp, opts)
	if err != nil {
		return Stats{}, err
	}
	if err := os.WriteFile(out, b, 0o644); err != nil {
		return Stats{}, err
	}
	return Stats{len(nodes), int64(len(b)), comp.miss.n.Load()}, comp.prune()
}

func build(ctx context.Context, nodes []*node, comp *compressor, opts Options) ([]byte, error) {
	p := &packer{opts: opts, comp: comp, seen: map[[32]byte]*data{}}
	for _, n := range nodes {
		if n.info.Mode().IsRegular() {
			if err := p.add(n); err != nil {
				return nil, err
			}
		}
	}
	if err := p.compress(ctx); err != nil {
		return nil, err
	}
	img := &image{make([]byte, superblockSize)}
	img.append(binary.LittleEndian.AppendUint16(nil, 4|metadataUncompressed))
	img.append(appendWords(nil, uint32(opts.Level)))
	sb := superblock{
		Magic: magic, Inodes: uint32(len(nodes)), Time: uint32(opts.Time.Unix()),
		BlockSize: uint32(opts.BlockSize), BlockLog: uint16(bits.TrailingZeros(uint(opts.BlockSize))),
		Compression: compressionID, Flags: flagDuplicates | flagNoXattrs | flagOptions,
		Fragments: uint32(len(p.fragments)), IDs: 1, Major: 4,
		XattrTable: absent, ExportTable: absent,
	}
	fragments := p.write(img)
	if err := writeTables(ctx, img, &sb, nodes, fragments, comp); err != nil {
		return nil, err
	}
	sb.Size = uint64(img.size())
	var head bytes.Buffer
	if err := binary.Write(&head, binary.LittleEndian, sb); err != nil {
		return nil, err
	}
	copy(img.b, head.Bytes())
	return append(img.b, make([]byte, -len(img.b)&(padding-1))...), nil
}

// writeTables appends the inode, directory, fragment and ID tables and notes in sb
// where they are.
func writeTables(ctx context.Context, img *image, sb *superblock, nodes []*node, fragments []byte, comp *compressor) error {
	t := &tables{
		inodes: &metadata{ctx: ctx, comp: comp}, dirs: &metadata{ctx: ctx, comp: comp},
		time: sb.Time, count: sb.Inodes, at: map[*node]position{},
	}
	if err := t.add(nodes[0]); err != nil {
		return err
	}
	inodes, err := t.inodes.close()
	if err != nil {
		return err
	}
	dirs, err := t.dirs.close()
	if err != nil {
		return err
	}
	root := t.at[nodes[0]]
	sb.Root = uint64(root.block)<<16 | uint64(root.offset)
	sb.InodeTable = uint64(img.size())
	img.append(inodes)
	sb.DirTable = uint64(img.size())
	img.append(dirs)
	if sb.FragmentTable, err = writeIndexed(ctx, img, comp, fragments); err != nil {
		return err
	}
	sb.IDTable, err = writeIndexed(ctx, img, comp, appendWords(nil, 0))
	return err
}

// writeIndexed appends a table's metadata blocks and then the list of where each
// starts. It returns where that list is.
func writeIndexed(ctx context.Context, img *image, comp *compressor, table []byte) (uint64, error) {
	var index []byte
	for len(table) > 0 {
		n := min(metadataSize, len(table))
		m := &metadata{ctx: ctx, comp: comp}
		m.write(table[:n])
		b, err := m.close()
		if err != nil {
			return 0, err
		}
		index = binary.LittleEndian.AppendUint64(index, uint64(img.size()))
		img.append(b)
		table = table[n:]
	}
	at := uint64(img.size())
	img.append(index)
	return at, nil
}
