package disk

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// Write makes the raw image out, replacing it: a GPT with the given identifier and
// the partitions in order. It returns the image's size in bytes. A content larger
// than its partition is an error.
func Write(out string, disk GUID, parts []Partition) (int64, error) {
	t, err := layout(disk, parts)
	if err != nil {
		return 0, err
	}
	areas, err := t.areas()
	if err != nil {
		return 0, err
	}
	f, err := os.Create(out)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := f.Truncate(t.size); err != nil {
		return 0, err
	}
	for at, b := range areas {
		if _, err := f.WriteAt(b, at); err != nil {
			return 0, err
		}
	}
	for _, p := range t.partitions {
		if err := p.copyTo(f); err != nil {
			return 0, fmt.Errorf("partition %s: %w", p.Name, err)
		}
	}
	return t.size, f.Close()
}

func (p Partition) copyTo(out *os.File) error {
	if p.Content == "" {
		return nil
	}
	in, err := os.Open(p.Content)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if info.Size() > p.Size {
		return fmt.Errorf("%s has %d bytes, there is room for %d", p.Content, info.Size(), p.Size)
	}
	return copySparse(out, in, p.offset)
}

// holeSize is what a stretch of zeros must have to become a hole: a page, the least
// that a filesystem can leave out.
const holeSize = 4096

// copySparse copies in to out at an offset and leaves out what is zero there anyway.
func copySparse(out io.WriterAt, in io.Reader, at int64) error {
	b, zeros := make([]byte, holeSize), make([]byte, holeSize)
	for {
		n, err := io.ReadFull(in, b)
		if n > 0 && !bytes.Equal(b[:n], zeros[:n]) {
			if _, err := out.WriteAt(b[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}
