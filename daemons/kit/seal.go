package kit

import (
	"errors"
	"fmt"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// sealed is what is in force; String is the ready line.
type sealed struct {
	landlock int // ABI version, 0 = none
}

func (s sealed) String() string { return fmt.Sprintf("landlock=%d seccomp=1", s.landlock) }

// seal gives up every right that spec does not name, for all threads and for
// good. Landlock comes first: seccomp forbids the calls that set it up.
//
// A production machine without Landlock refuses to run anything. The command
// line that could turn it off is signed, so the kernel itself must be wrong: that is a
// failed update, and the boot loader's answer to a system that does not come up
// is the previous one. Images made for development run, and say so.
func seal(spec *abi.Spec) (sealed, error) {
	var s sealed
	var err error
	if s.landlock, err = landlockSelf(spec); err != nil {
		return s, fmt.Errorf("landlock: %w", err)
	}
	if s.landlock < landlockABI && spec.Mode != abi.Development && spec.Mode != abi.Test {
		return s, errors.New("landlock: this kernel's is older than the image's: not for production")
	}
	if err = filterSelf(spec.Syscalls); err != nil {
		return s, fmt.Errorf("seccomp: %w", err)
	}
	return s, nil
}
