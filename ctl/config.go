package main

import (
	"fmt"
	"strings"

	"github.com/dactyl-os/dactyl/ipc/config"
)

// showConfig prints the YAML itself, so that it can go to a file; where it came
// from and what is wrong with the one that was not taken go to stderr.
func showConfig(c *call, r *config.GetConfigResponse) error {
	if c.output != asTable {
		return c.show(r, nil)
	}
	if r.Error != "" {
		c.note("the file on the ESP was not taken: %s", r.Error)
	}
	if r.Yaml == "" {
		c.note("there is no file: the defaults are in force")
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(r.Yaml, "\n"), "\n")
	for _, line := range lines {
		fmt.Fprintln(c.stdout, printableLine(line))
	}
	return nil
}
