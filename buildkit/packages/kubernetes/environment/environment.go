// Package environment gives a component environment variables that PID 1, which
// hands on arguments alone, cannot give it: a proxy, for one.
package environment

import (
	"fmt"
	"os"
	"strings"
)

// flag names a file of lines NAME=VALUE.
const flag = "--environment"

// Take puts what the file of an argument "--environment FILE" says into the
// environment, and returns the arguments without it. Go programs read a proxy's
// variables once, so Take comes before all else.
func Take(args []string) ([]string, error) {
	for i, a := range args {
		if a != flag {
			continue
		}
		if i+1 == len(args) {
			return nil, fmt.Errorf("%s: no file", flag)
		}
		if err := set(args[i+1]); err != nil {
			return nil, err
		}
		return append(args[:i:i], args[i+2:]...), nil
	}
	return args, nil
}

func set(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for n, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" {
			return fmt.Errorf("%s:%d: %q: want NAME=VALUE", file, n+1, line)
		}
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("%s:%d: %w", file, n+1, err)
		}
	}
	return nil
}
