// Command trivial is the least that can be PID 1: it says that it runs, and
// nothing else. What a machine takes until then is what firmware, boot loader,
// kernel and root take; the rest of a boot is Dactyl's own.
package main

import (
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	os.Stdout.WriteString("trivial: up\n") // the console, which the kernel has opened
	for {
		unix.Pause()
	}
}
