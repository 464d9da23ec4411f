package flash

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Target is a disk, or a file that stands for one, opened for writing.
type Target struct {
	Disk
	file  *os.File
	block bool
}

// OpenDevice opens a block device that Check has found free. The kernel refuses
// when anything else has it, and refuses everybody else until Close.
func OpenDevice(d Disk) (*Target, error) {
	f, err := os.OpenFile(d.Path, os.O_RDWR|os.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, refuse("%s is in use: the kernel does not give it to a second owner", d.Path)
	}
	if err != nil {
		return nil, err
	}
	return &Target{Disk: d, file: f, block: true}, nil
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
		_ = unix.IoctlSetInt(int(t.file.Fd()), unix.BLKRRPART, 0)
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
	if !t.block {
		return nil
	}
	span := [2]uint64{uint64(offset), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, t.file.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span)))
	if errno == 0 {
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

// forget drops what the kernel remembers of the target, so that reading asks
// the disk.
func (t *Target) forget() error {
	fd := int(t.file.Fd())
	if !t.block {
		return os.NewSyscallError("fadvise", unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
	}
	return os.NewSyscallError("ioctl BLKFLSBUF", unix.IoctlSetInt(fd, unix.BLKFLSBUF, 0))
}
