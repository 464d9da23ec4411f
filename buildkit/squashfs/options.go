package squashfs

import (
	"fmt"
	"math/bits"
	"time"
)

// Options decide the bytes of an image, but for Cache and Jobs, which only decide
// how long it takes.
type Options struct {
	// BlockSize is how many bytes are compressed together: a power of two from
	// 4 KiB to 1 MiB.
	BlockSize int
	// Level is zstd's, 1 to 22.
	Level int
	// Time is every file's modification time and the filesystem's own.
	Time time.Time
	// Cache is a directory for compressed blocks; it is made when missing. Empty
	// means none.
	Cache string
	// Jobs is how many blocks are compressed at once; 0 means one per CPU.
	Jobs int
}

func (o Options) check() error {
	if o.BlockSize < 4<<10 || o.BlockSize > 1<<20 || bits.OnesCount(uint(o.BlockSize)) != 1 {
		return fmt.Errorf("squashfs: block size %d: want a power of two from 4096 to 1048576", o.BlockSize)
	}
	if o.Level < 1 || o.Level > 22 {
		return fmt.Errorf("squashfs: zstd level %d: want 1 to 22", o.Level)
	}
	if s := o.Time.Unix(); s < 0 || s > 1<<32-1 {
		return fmt.Errorf("squashfs: time %s does not fit 32 bits of seconds", o.Time)
	}
	return nil
}
