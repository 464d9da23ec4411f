// Command trivial is the least that can be PID 1: it says that it runs, and
// nothing else. What a machine takes until then is what firmware, boot loader,
// kernel and root take; the rest of a boot is Dactyl's own.
package main

import (
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	// The kernel shows on its consoles what is written to its log.
	if unix.Mount("devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "") == nil {
		os.WriteFile("/dev/kmsg", []byte("<3>trivial: up\n"), 0)
	}
	for {
		unix.Pause()
	}
}
