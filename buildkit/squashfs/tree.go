package squashfs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// node is one file of the image.
type node struct {
	name     string
	path     string // on the host
	info     fs.FileInfo
	number   uint32 // inode number, from 1
	parent   *node
	children []*node // of a directory, by name
	target   string  // of a symbolic link
	data     *data   // of a regular file
}

// scan reads the tree under root, breadth first. The order is the order of inode
// numbers: siblings get consecutive ones, because a directory stores them as 16-bit
// differences.
func scan(root string) ([]*node, error) {
	top, err := newNode(nil, "", root)
	if err != nil {
		return nil, err
	}
	if !top.info.IsDir() {
		return nil, fmt.Errorf("squashfs: %s is not a directory", root)
	}
	all := []*node{top}
	for i := 0; i < len(all); i++ {
		n := all[i]
		n.number = uint32(i + 1)
		if !n.info.IsDir() {
			continue
		}
		if err := n.readChildren(); err != nil {
			return nil, err
		}
		all = append(all, n.children...)
	}
	return all, nil
}

func newNode(parent *node, name, path string) (*node, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	n := &node{name: name, path: path, info: info, parent: parent}
	if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		return nil, fmt.Errorf("squashfs: %s is set-user-ID or set-group-ID (%s)", path, info.Mode())
	}
	switch info.Mode().Type() {
	case fs.ModeDir, 0:
	case fs.ModeSymlink:
		n.target, err = os.Readlink(path)
	default:
		err = fmt.Errorf("squashfs: %s is neither a file, a directory nor a symbolic link (%s)", path, info.Mode())
	}
	return n, err
}

func (n *node) readChildren() error {
	entries, err := os.ReadDir(n.path) // sorted by name
	if err != nil {
		return err
	}
	for _, e := range entries {
		c, err := newNode(n, e.Name(), filepath.Join(n.path, e.Name()))
		if err != nil {
			return err
		}
		n.children = append(n.children, c)
	}
	return nil
}

// permissions are the mode bits that an inode stores: permissions and sticky.
func (n *node) permissions() uint16 {
	p := uint16(n.info.Mode().Perm())
	if n.info.Mode()&fs.ModeSticky != 0 {
		p |= 0o1000
	}
	if n.target != "" {
		p = 0o777
	}
	return p
}

// links is a directory's link count: its name, its ".", and each child's "..".
func (n *node) links() uint32 {
	l := uint32(2)
	for _, c := range n.children {
		if c.info.IsDir() {
			l++
		}
	}
	return l
}
