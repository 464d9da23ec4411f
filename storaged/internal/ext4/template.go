package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// blockSize is the template's: with any other the superblock would not lie alone
// in the first block, before the group descriptors.
const blockSize = 4096

// Device is what a filesystem is written to.
type Device interface {
	io.WriterAt
	Sync() error
}

// ErrTemplate says that what should be copied is not an empty filesystem of one
// group of 4 KiB blocks.
var ErrTemplate = errors.New("unfit template")

// Copy writes the empty filesystem in from to the start of the device to.
//
// It writes what the template's block bitmap has in use, zeros too: a stale
// journal must not be replayed. The rest of the device is free space, whose content
// means nothing. The first block, with the superblock, is erased first and written
// last, so after a power cut there is no filesystem, rather than half of one.
func Copy(to Device, from io.ReaderAt) error {
	super, err := ReadSuperblock(from)
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	if super.BlockSize != blockSize || super.firstBlock != 0 || super.Blocks > uint64(super.blocksPerGroup) {
		return fmt.Errorf("%w: %d blocks of %d bytes", ErrTemplate, super.Blocks, super.BlockSize)
	}
	used, err := usedBlocks(from, super.Blocks)
	if err != nil {
		return err
	}
	if err := writeSynced(to, make([]byte, blockSize)); err != nil {
		return err
	}
	for _, run := range used {
		if err := copyRun(to, from, run); err != nil {
			return err
		}
	}
	if err := to.Sync(); err != nil {
		return err
	}
	first := make([]byte, blockSize)
	if _, err := from.ReadAt(first, 0); err != nil {
		return err
	}
	return writeSynced(to, first)
}

func writeSynced(to Device, first []byte) error {
	if _, err := to.WriteAt(first, 0); err != nil {
		return err
	}
	return to.Sync()
}

// run is a stretch of blocks.
type run struct{ first, end uint64 }

// usedBlocks reads the bitmap of the only group, without the first block.
func usedBlocks(from io.ReaderAt, blocks uint64) ([]run, error) {
	descriptors, bitmap := make([]byte, blockSize), make([]byte, blockSize)
	if _, err := from.ReadAt(descriptors, blockSize); err != nil {
		return nil, fmt.Errorf("template: read group descriptors: %w", err)
	}
	at := uint64(binary.LittleEndian.Uint32(descriptors)) // bg_block_bitmap_lo
	if at == 0 || at >= blocks || blocks > 8*blockSize {
		return nil, fmt.Errorf("%w: block bitmap at %d of %d", ErrTemplate, at, blocks)
	}
	if _, err := from.ReadAt(bitmap, int64(at)*blockSize); err != nil {
		return nil, fmt.Errorf("template: read block bitmap: %w", err)
	}
	var list []run
	for b := uint64(1); b < blocks; b++ {
		if bitmap[b/8]>>(b%8)&1 == 0 {
			continue
		}
		if n := len(list); n > 0 && list[n-1].end == b {
			list[n-1].end++
			continue
		}
		list = append(list, run{b, b + 1})
	}
	return list, nil
}

// chunkBlocks is how much is copied at once: enough for a disk to be busy, little
// beside storaged's memory limit.
const chunkBlocks = 256

func copyRun(to io.WriterAt, from io.ReaderAt, r run) error {
	buffer := make([]byte, chunkBlocks*blockSize)
	for at := r.first; at < r.end; at += chunkBlocks {
		b := buffer[:min(r.end-at, chunkBlocks)*blockSize]
		if _, err := from.ReadAt(b, int64(at)*blockSize); err != nil {
			return fmt.Errorf("template: read block %d: %w", at, err)
		}
		if _, err := to.WriteAt(b, int64(at)*blockSize); err != nil {
			return err
		}
	}
	return nil
}
