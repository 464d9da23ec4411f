// Command mount mounts and unmounts for the kubelet, which starts it for every tmpfs,
// subPath and bind mount of a pod. It is both mount and umount; the name that it is
// started under says which.
//
//	mount [--no-canonicalize] [-t TYPE] [-o OPTION,…]… [SOURCE] TARGET
//	umount [-f] [-l] TARGET
//
// It has no fstab, starts no helpers, looks for no filesystem's type and follows the
// paths as they are: the kernel does. It uses nothing but the standard library's
// system calls, because it is started often and must be small.
package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Exit codes of mount(8) that the kubelet and storage drivers look at.
const (
	exitUsage  = 1
	exitFailed = 32
)

var errUsage = errors.New("wrong usage")

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	err := errors.New("start it as mount or umount")
	switch name {
	case "mount":
		err = mount(args)
	case "umount":
		err = unmount(args)
	}
	if err == nil {
		return
	}
	os.Stderr.WriteString(name + ": " + err.Error() + ".\n")
	if errors.Is(err, errUsage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

func mount(args []string) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	for _, call := range c.calls() {
		if err := syscall.Mount(call.source, call.target, call.fstype, call.flags, call.data); err != nil {
			return failure{c.target, err}
		}
	}
	return nil
}

func unmount(args []string) error {
	target, flags := "", 0
	for _, arg := range args {
		switch {
		case arg == "-f":
			flags |= syscall.MNT_FORCE
		case arg == "-l":
			flags |= syscall.MNT_DETACH
		case strings.HasPrefix(arg, "-"), target != "":
			return wrong("umount [-f] [-l] TARGET")
		default:
			target = arg
		}
	}
	if target == "" {
		return wrong("umount [-f] [-l] TARGET")
	}
	err := syscall.Unmount(target, flags)
	if errors.Is(err, syscall.EINVAL) {
		// The kubelet looks for these words: see CanSafelySkipMountPointCheck there.
		return failure{target, errors.New("not mounted")}
	}
	if err != nil {
		return failure{target, err}
	}
	return nil
}

// failure says what could not be mounted or unmounted, and why.
type failure struct {
	target string
	cause  error
}

func (f failure) Error() string { return f.target + ": " + f.cause.Error() }
func (f failure) Unwrap() error { return f.cause }

func wrong(usage string) error { return failure{usage, errUsage} }
