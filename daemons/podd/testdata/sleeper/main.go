// Command sleeper waits for SIGTERM and ends, or, told to be deaf, does not. Tests
// run it in pods.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "deaf" {
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	<-asked
}
