// Command sleeper waits for SIGTERM and ends, or, told to be deaf, goes on. Tests
// run it in pods.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	fmt.Println("ready") // before this, SIGTERM ends it whatever it was told
	<-asked
	if len(os.Args) > 1 && os.Args[1] == "deaf" {
		<-asked
	}
}
