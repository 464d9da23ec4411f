package squashfs

import (
	"encoding/binary"
	"fmt"
)

// Types of inode; a directory's entries use the same numbers.
const (
	typeDir     = 1
	typeFile    = 2
	typeSymlink = 3
	typeLongDir = 8 // a directory whose listing does not fit 16 bits
)

const (
	// runLength is how many entries one directory header may count.
	runLength = 256
	// dotEntries is what a directory's size counts for "." and "..", which are not stored.
	dotEntries = 3
)

// tables are the inode and directory tables under construction.
type tables struct {
	inodes, dirs *metadata
	time         uint32
	count        uint32 // of all inodes
	at           map[*node]position
}

// add writes n's inode after those of everything below it: a directory's listing
// says where its children's inodes are.
func (t *tables) add(n *node) error {
	for _, c := range n.children {
		if err := t.add(c); err != nil {
			return err
		}
	}
	b, err := t.inode(n)
	if err != nil {
		return err
	}
	t.at[n] = t.inodes.position()
	t.inodes.write(b)
	return nil
}

func (t *tables) inode(n *node) ([]byte, error) {
	switch {
	case n.info.IsDir():
		return t.dirInode(n), nil
	case n.target != "":
		b := t.header(typeSymlink, n)
		b = appendWords(b, 1, uint32(len(n.target)))
		return append(b, n.target...), nil
	}
	return t.fileInode(n)
}

func (t *tables) header(kind uint16, n *node) []byte {
	b := binary.LittleEndian.AppendUint16(nil, kind)
	b = binary.LittleEndian.AppendUint16(b, n.permissions())
	b = binary.LittleEndian.AppendUint32(b, 0) // index of the owner and group in the ID table: root, root
	return appendWords(b, t.time, n.number)
}

func (t *tables) fileInode(n *node) ([]byte, error) {
	d := n.data
	if d.size > 1<<32-1 || d.start > 1<<32-1 {
		return nil, fmt.Errorf("squashfs: %s lies beyond 4 GiB", n.path)
	}
	b := appendWords(t.header(typeFile, n), uint32(d.start), d.fragment, d.offset, uint32(d.size))
	return appendWords(b, d.words...), nil
}

func (t *tables) dirInode(n *node) []byte {
	listing := t.listing(n.children)
	at := t.dirs.position()
	t.dirs.write(listing)
	size := uint32(len(listing) + dotEntries)
	parent := t.count + 1 // the root's, by custom
	if n.parent != nil {
		parent = n.parent.number
	}
	if size > 1<<16-1 {
		b := appendWords(t.header(typeLongDir, n), n.links(), size, at.block, parent)
		b = binary.LittleEndian.AppendUint16(b, 0) // no index
		b = binary.LittleEndian.AppendUint16(b, at.offset)
		return appendWords(b, 1<<32-1) // no extended attributes
	}
	b := appendWords(t.header(typeDir, n), at.block, n.links())
	b = binary.LittleEndian.AppendUint16(b, uint16(size))
	b = binary.LittleEndian.AppendUint16(b, at.offset)
	return appendWords(b, parent)
}

// listing is a directory's content: runs of entries whose inodes share a metadata
// block, each run under one header.
func (t *tables) listing(children []*node) (b []byte) {
	for len(children) > 0 {
		run := t.run(children)
		first := t.at[children[0]]
		b = appendWords(b, uint32(run-1), first.block, children[0].number)
		for _, c := range children[:run] {
			b = binary.LittleEndian.AppendUint16(b, t.at[c].offset)
			b = binary.LittleEndian.AppendUint16(b, uint16(c.number-children[0].number))
			b = binary.LittleEndian.AppendUint16(b, c.kind())
			b = binary.LittleEndian.AppendUint16(b, uint16(len(c.name)-1))
			b = append(b, c.name...)
		}
		children = children[run:]
	}
	return b
}

func (t *tables) run(children []*node) int {
	n := 1
	for n < len(children) && n < runLength && t.at[children[n]].block == t.at[children[0]].block {
		n++
	}
	return n
}

func (n *node) kind() uint16 {
	switch {
	case n.info.IsDir():
		return typeDir
	case n.target != "":
		return typeSymlink
	}
	return typeFile
}

func appendWords(b []byte, words ...uint32) []byte {
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}
