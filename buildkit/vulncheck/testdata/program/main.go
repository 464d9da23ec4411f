// Command program calls one function of a module that is linked into it, and has another
// one inlined.
package main

import (
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		panic(err)
	}
	println(unix.Major(uint64(os.Getpid())))
}
