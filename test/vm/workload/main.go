// Command workload is what scenarios run in pods. Without arguments it serves HTTP on
// port 8080 and writes a line to its log for what it does:
//
//	/                who answers: pod, node, the caller's address, the request
//	/healthz /readyz 200, or 503 after a POST of "no", until one of "yes"
//	/env?name=N      a variable
//	/files/PATH      a file; PUT writes it, and answers when it is on the disk
//	/get?url=U       what U answers, asked from inside the pod
//	/lookup?name=N   the addresses of a DNS name
//	/exit?code=N     ends with that code
//	/eat?mib=N       takes memory
//	/burn?seconds=N  takes a processor
//
// With arguments it does one thing and ends, for kubectl exec in an image that has
// no shell: see commands. It is there under the names tar and test too, because
// kubectl cp runs those.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if commands[name] == nil {
		if len(args) == 0 {
			serve()
		}
		name, args = args[0], args[1:]
	}
	run := commands[name]
	if run == nil {
		fmt.Fprintf(os.Stderr, "workload: no command %q\n", name)
		os.Exit(64)
	}
	if err := run(args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
