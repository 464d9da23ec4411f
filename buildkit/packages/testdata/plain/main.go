// Command plain calls no method by name.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Println(os.Args) }
