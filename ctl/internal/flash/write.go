package flash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// chunkBytes is what is read, written and compared at once. It holds a whole
	// partition table and is a multiple of every device's sectors.
	chunkBytes = 1 << 20
	// flushBytes is how much may wait in memory before it is forced to the disk:
	// so little that the progress shown is the disk's, and that an interrupt is
	// obeyed within seconds on a slow stick.
	flushBytes = 16 << 20
)

var zeros = make([]byte, chunkBytes)

// Progress is told of every piece of the image that is done.
type Progress func(bytes int64)

// Write makes the target begin with the image of so many bytes. It returns
// ctx's error when that ends; the target is then without a partition table.
func (t *Target) Write(ctx context.Context, image *os.File, size int64, done Progress) error {
	if err := t.clear(size); err != nil {
		return fmt.Errorf("prepare %s: %w", t.Path, err)
	}
	done(0)
	buf := make([]byte, chunkBytes)
	waiting := int64(0)
	for offset := min(chunkBytes, size); offset < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := t.copy1(image, offset, size, buf)
		if err != nil {
			return err
		}
		offset += n
		if waiting += n; waiting >= flushBytes {
			waiting = 0
			if err := t.flush(); err != nil {
				return fmt.Errorf("flush %s: %w", t.Path, err)
			}
		}
		done(n)
	}
	return t.finish(ctx, image, size, buf, done)
}

// finish writes the first chunk, without which all others are nothing.
func (t *Target) finish(ctx context.Context, image *os.File, size int64, buf []byte, done Progress) error {
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", t.Path, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := t.copy1(image, 0, min(chunkBytes, size), buf)
	if err != nil {
		return err
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", t.Path, err)
	}
	done(n)
	return nil
}

// copy1 copies the piece at offset, at most a chunk, and returns its length.
func (t *Target) copy1(image *os.File, offset, size int64, buf []byte) (int64, error) {
	buf, hole, err := readChunk(image, offset, size, buf)
	if err != nil {
		return 0, err
	}
	n := int64(len(buf))
	if hole || bytes.Equal(buf, zeros[:n]) {
		if err := t.zero(offset, n); err != nil {
			return 0, fmt.Errorf("write %s at %d: %w", t.Path, offset, err)
		}
		return n, nil
	}
	if _, err := t.file.WriteAt(buf, offset); err != nil {
		return 0, fmt.Errorf("write %s: %w", t.Path, err)
	}
	return n, nil
}

// readChunk returns the image's bytes from offset on, at most a chunk of them.
// What lies in a hole is not read: buf then has the right length only.
func readChunk(image *os.File, offset, size int64, buf []byte) (part []byte, hole bool, err error) {
	part = buf[:min(chunkBytes, size-offset)]
	if inHole(image, offset, int64(len(part))) {
		return part, true, nil
	}
	if _, err := image.ReadAt(part, offset); err != nil {
		return nil, false, fmt.Errorf("read image: %w", err)
	}
	return part, false, nil
}

// Different says that the target does not give back what was written.
type Different struct {
	Path   string
	Offset int64
}

func (d *Different) Error() string {
	return fmt.Sprintf("%s does not give back what was written, first at byte %d: the medium is faulty", d.Path, d.Offset)
}

// Verify reads the target, not the kernel's memory of it, and compares it with
// the image. It returns the SHA-256 of what it read.
func (t *Target) Verify(ctx context.Context, image *os.File, size int64, done Progress) ([]byte, error) {
	if err := t.forget(); err != nil {
		return nil, fmt.Errorf("verify %s: %w", t.Path, err)
	}
	sum := sha256.New()
	want, have := make([]byte, chunkBytes), make([]byte, chunkBytes)
	for offset := int64(0); offset < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part, hole, err := readChunk(image, offset, size, want)
		if err != nil {
			return nil, err
		}
		if hole {
			part = zeros[:len(part)]
		}
		got := have[:len(part)]
		if _, err := t.file.ReadAt(got, offset); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read %s: %w", t.Path, err)
		}
		if !bytes.Equal(got, part) {
			return nil, &Different{t.Path, offset + firstDifference(got, part)}
		}
		sum.Write(got)
		offset += int64(len(part))
		done(int64(len(part)))
	}
	return sum.Sum(nil), nil
}

func firstDifference(a, b []byte) int64 {
	for i := range a {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	panic("BUG: no difference")
}

func alignUp(n int64) int64 { return (n + chunkBytes - 1) / chunkBytes * chunkBytes }
