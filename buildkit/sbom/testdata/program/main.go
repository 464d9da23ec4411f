// Command program has one module linked into it.
package main

import "golang.org/x/sys/unix"

func main() { unix.Getpid() }
