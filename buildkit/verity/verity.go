package verity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	dmverity "github.com/containerd/go-dmverity/pkg/verity"
)

// BlockSize is that of data and hash blocks, in bytes: the page size, the unit in
// which the kernel checks what it reads.
const BlockSize = 4096

// SectorSize is the unit of a device-mapper table, in bytes.
const SectorSize = 512

// Tree describes an image with its hash tree.
type Tree struct {
	DataBlocks uint64
	RootHash   [32]byte
	Salt       [32]byte
	Size       int64 // of all, in bytes
}

// Append adds superblock and hash tree to the image in the file name, whose size
// must be a multiple of BlockSize.
func Append(name string) (Tree, error) {
	salt, size, err := hashFile(name)
	if err != nil {
		return Tree{}, err
	}
	if size == 0 || size%BlockSize != 0 {
		return Tree{}, fmt.Errorf("verity: %s has %d bytes, want a multiple of %d", name, size, BlockSize)
	}
	uuid := sha256.Sum256(append([]byte("dactyl verity superblock "), salt[:]...))
	root, err := dmverity.Create(&dmverity.Params{
		HashName: "sha256", HashType: 1,
		DataBlockSize: BlockSize, HashBlockSize: BlockSize, DataBlocks: uint64(size / BlockSize),
		Salt: salt[:], SaltSize: uint16(len(salt)), UUID: [16]byte(uuid[:]),
		HashAreaOffset: uint64(size),
	}, name, name)
	if err != nil {
		return Tree{}, fmt.Errorf("verity tree of %s: %w", name, err)
	}
	t := Tree{DataBlocks: uint64(size / BlockSize), RootHash: [32]byte(root), Salt: salt}
	t.Size, err = pad(name)
	return t, err
}

// HashOffset is where the superblock starts, in bytes; veritysetup calls it so.
func (t Tree) HashOffset() int64 { return int64(t.DataBlocks) * BlockSize }

// Table is the device-mapper table that opens the image read-only on the partition
// dev, as the kernel's dm-mod.create takes it.
//
// A block that does not match is answered with an I/O error, the target's default,
// rather than a restart or a panic: nothing unverified is ever used either way, and a
// machine with one bad block in a file it seldom reads stays reachable and can be
// repaired, where one that restarts would do so for ever.
func (t Tree) Table(dev string) string {
	return fmt.Sprintf("0 %d verity 1 %s %s %d %d %d %d sha256 %x %x",
		t.DataBlocks*BlockSize/SectorSize, dev, dev, BlockSize, BlockSize,
		t.DataBlocks, t.DataBlocks+1, t.RootHash, t.Salt)
}

// PartUUID is the partition UUID of the slot that holds the image: the first half of
// the root hash, as the discoverable partitions specification has it for root.
func (t Tree) PartUUID() string {
	h := hex.EncodeToString(t.RootHash[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// pad makes the file a multiple of BlockSize and returns its size.
func pad(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	size := (info.Size() + BlockSize - 1) / BlockSize * BlockSize
	return size, os.Truncate(name, size)
}

func hashFile(name string) (sum [32]byte, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), size, err
}
