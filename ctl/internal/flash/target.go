package flash

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Target is a disk, or a file that stands for one, opened for writing.
type Target struct {
	Disk
	file  *os.File
	block bool
}

// CheckFile is Check for a plain file. One that exists and is not empty counts
// as a disk of its size; any other gets the image's.
func CheckFile(path string, image int64) (d Disk, isNew bool, err error) {
	d = Disk{Path: path, Bytes: image}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d, true, nil
	case err != nil:
		return d, false, err
	case !st.Mode().IsRegular():
		return d, false, refuse("%s is not a plain file; without --file a block device is expected", path)
	case st.Size() == 0:
		return d, true, nil
	}
	d.Bytes = st.Size()
	return d, false, d.checkRoom(image)
}

// OpenFile opens the plain file of d, made when it is missing.
func OpenFile(d Disk) (*Target, error) {
	f, err := os.OpenFile(d.Path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &Target{Disk: d, file: f}, nil
}

// Close gives the target back. Of a disk the kernel is asked to read the new
// partition table first; that it does not want to is no failure, it will at the
// next plugging in.
func (t *Target) Close() error {
	if t.block {
		t.rereadTable()
	}
	return t.file.Close()
}

// clear makes the place for the image empty: all of a file, of a disk the two
// places of a partition table.
func (t *Target) clear(image int64) error {
	if !t.block {
		if err := t.file.Truncate(0); err != nil {
			return err
		}
		return t.file.Truncate(t.Bytes)
	}
	if err := t.zero(0, min(chunkBytes, image)); err != nil {
		return err
	}
	if tail := max(alignUp(image), t.Bytes-chunkBytes); tail < t.Bytes {
		if err := t.zero(tail, t.Bytes-tail); err != nil {
			return err
		}
	}
	return t.file.Sync()
}

// zero makes a range read as zeros. In a file everything does that clear left.
func (t *Target) zero(offset, n int64) error {
	if !t.block || t.zeroBlocks(offset, n) == nil {
		return nil
	}
	// Not aligned to the device's sectors, or an old kernel: write them.
	for end := offset + n; offset < end; {
		part := min(int64(len(zeros)), end-offset)
		if _, err := t.file.WriteAt(zeros[:part], offset); err != nil {
			return fmt.Errorf("clear: %w", err)
		}
		offset += part
	}
	return nil
}
