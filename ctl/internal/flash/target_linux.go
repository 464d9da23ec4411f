package flash

import (
	"errors"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenDevice opens a block device that Check has found free. The kernel refuses
// when anything else has it, and refuses everybody else until Close. What is open then
// must be the disk that Check has seen, since a person may have thought about it for long,
// and plugged another stick in meanwhile: until this returns, nothing is written.
func (h Host) OpenDevice(d Disk) (*Target, error) {
	f, err := os.OpenFile(d.Path, os.O_RDWR|os.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, refuse("%s is in use: the kernel does not give it to a second owner", d.Path)
	}
	if err != nil {
		return nil, err
	}
	if err := h.checkSame(f, d); err != nil {
		f.Close()
		return nil, err
	}
	return &Target{Disk: d, file: f, block: true}, nil
}

func (h Host) checkSame(f *os.File, d Disk) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	changed := refuse("%s is another disk than a moment ago: was something plugged in or out? Run the command again", d.Path)
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return changed
	}
	if !h.is(d, devno{unix.Major(st.Rdev), unix.Minor(st.Rdev)}) {
		return changed
	}
	return nil
}

// is says whether the device of that number is the disk that Check has seen.
func (h Host) is(d Disk, number devno) bool {
	dir, err := filepath.EvalSymlinks(filepath.Join(h.Sys, "dev/block", number.String()))
	return err == nil && describe(d.Path, dir, number) == d
}

// rereadTable asks the kernel to read the new partition table.
func (t *Target) rereadTable() {
	_ = unix.IoctlSetInt(int(t.file.Fd()), unix.BLKRRPART, 0)
}

// zeroBlocks has the device make zeros.
func (t *Target) zeroBlocks(offset, n int64) error {
	span := [2]uint64{uint64(offset), uint64(n)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, t.file.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span))); errno != 0 {
		return errno
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

// flush forces what was written to the disk.
func (t *Target) flush() error { return unix.Fdatasync(int(t.file.Fd())) }

// inHole says whether n bytes from offset on are in a hole of the image.
func inHole(image *os.File, offset, n int64) bool {
	next, err := unix.Seek(int(image.Fd()), offset, unix.SEEK_DATA)
	return errors.Is(err, unix.ENXIO) || err == nil && next >= offset+n
}
