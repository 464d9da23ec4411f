package squashfs

import (
	"errors"
	"fmt"
)

// trim takes off the empty block with which the zstd command ends a frame that it
// reads from a pipe, and marks the block before it as the last one.
//
// It has to go: the kernel gives the decoder a compressed block page by page, and
// takes "all output is full, the frame is not at its end" for corruption. So a frame
// whose last three bytes begin a new page could not be read, one in some 1,400.
func trim(frame []byte) ([]byte, error) {
	at, err := frameHeader(frame)
	if err != nil {
		return nil, err
	}
	for previous := -1; ; {
		if at+3 > len(frame) {
			return nil, errFrame
		}
		head := uint32(frame[at]) | uint32(frame[at+1])<<8 | uint32(frame[at+2])<<16
		last, kind, size := head&1 != 0, head>>1&3, int(head>>3)
		if last && size == 0 && previous >= 0 {
			frame[previous] |= 1
			return frame[:at], nil
		}
		next := at + 3 + size
		if kind == blockRLE {
			next = at + 3 + 1
		}
		if last {
			return frame[:next:next], checkEnd(next, len(frame))
		}
		previous, at = at, next
	}
}

const blockRLE = 1 // a block of one byte repeated; size says how often

var errFrame = errors.New("squashfs: not one whole zstd frame")

// frameHeader returns where a frame's first block starts (RFC 8878, 3.1.1.1).
func frameHeader(frame []byte) (int, error) {
	if len(frame) < 6 || string(frame[:4]) != "\x28\xb5\x2f\xfd" {
		return 0, errFrame
	}
	const singleSegment, checksum, dictionary = 1 << 5, 1 << 2, 3
	flags := frame[4]
	if flags&(checksum|dictionary) != 0 || flags&singleSegment == 0 {
		return 0, fmt.Errorf("squashfs: zstd frame with flags %#x: want one segment, no checksum, no dictionary", flags)
	}
	return 5 + []int{1, 2, 4, 8}[flags>>6], nil
}

func checkEnd(got, want int) error {
	if got != want {
		return errFrame
	}
	return nil
}
