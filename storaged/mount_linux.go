package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mount mounts a volume's partition.
func (m *machine) mount(spec volumeSpec, device string) error {
	source := m.node(device)
	options := append([]option{{"source", source}}, spec.options...)
	if err := mountAt(spec.filesystem, options, spec.flags, m.target(spec)); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return nil
}

func mountTmpfs(spec volumeSpec, target string) error {
	return mountAt("tmpfs", append([]option{{"source", "tmpfs"}}, spec.memory...), spec.flags, target)
}

// mountAt uses the calls that take a mount apart: only so can an error of the
// filesystem be told from one of an option or of the place.
func mountAt(filesystem string, options []option, flags mountFlags, target string) error {
	fs, err := unix.Fsopen(filesystem, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open %s: %w", filesystem, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o.key, o.value); err != nil {
			return fmt.Errorf("set %s=%s of %s: %w%s", o.key, o.value, filesystem, err, complaints(fs))
		}
	}
	attributes := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOATIME
	if flags.noExec {
		attributes |= unix.MOUNT_ATTR_NOEXEC
	}
	if flags.readOnly {
		attributes |= unix.MOUNT_ATTR_RDONLY
		if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
			return fmt.Errorf("set ro of %s: %w", filesystem, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return asCorrupt(fmt.Errorf("read %s: %w%s", filesystem, err, complaints(fs)))
	}
	tree, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return fmt.Errorf("make a mount of %s: %w", filesystem, err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount on %s: %w", target, err)
	}
	return nil
}

// corruption are the answers of a filesystem that does not find itself on the
// device: its structures contradict each other, a checksum is wrong, or there is
// none (or one with features that this kernel does not know). EIO is not among
// them: a disk that cannot be read is not improved by writing to it.
var corruption = []syscall.Errno{unix.EUCLEAN, unix.EBADMSG, unix.EINVAL}

func asCorrupt(err error) error {
	if slices.ContainsFunc(corruption, func(e syscall.Errno) bool { return errors.Is(err, e) }) {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return err
}

// complaints are what the filesystem had to say: lines "e ext4: …".
func complaints(fs int) string {
	var all strings.Builder
	b := make([]byte, 512)
	for range 8 {
		n, err := unix.Read(fs, b)
		if err != nil || n <= 0 {
			break
		}
		if line := strings.TrimSpace(string(b[:n])); len(line) > 2 {
			all.WriteString(": " + line[2:])
		}
	}
	return all.String()
}
