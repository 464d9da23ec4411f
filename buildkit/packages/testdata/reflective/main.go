// Command reflective calls a method whose name nobody knows before it runs.
package main

import (
	"os"
	"reflect"
	"time"
)

func main() { reflect.ValueOf(time.Now()).MethodByName(os.Args[1]).Call(nil) }
