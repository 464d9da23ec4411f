package manifest

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Each function here says what a value must be, or "" when it is right.

func oneOf(known []string) func(string) string {
	return func(key string) string {
		if slices.Contains(known, key) {
			return ""
		}
		return "not one of " + strings.Join(known, ", ")
	}
}

func anything(string) string { return "" }

func absolute(key string) string {
	if path.IsAbs(key) && path.Clean(key) == key && key != "/" {
		return ""
	}
	return "an absolute, clean path below /"
}

func devicePattern(key string) string {
	name, below := strings.CutPrefix(key, "/dev/")
	if _, err := path.Match(key, ""); err != nil || !below || path.Clean(key) != key {
		return `a pattern below /dev, such as "/dev/nvme*"`
	}
	if wild := strings.IndexAny(name, `*?[\`); wild >= 0 && wild < kindOfDevice {
		return `matches more than one kind of device: name the kind, such as "/dev/nvme*"`
	}
	for _, device := range neverDevices {
		if match, _ := path.Match(name, device); match {
			return "/dev/" + device + " reaches all memory: no pattern may match it"
		}
	}
	return ""
}

const kindOfDevice = 2 // letters of the shortest names of kinds: sd, vd

var neverDevices = []string{"kmem", "mem", "port"}

func tcpAddress(key string) string {
	network, address, _ := strings.Cut(key, ":")
	port := address[strings.LastIndex(address, ":")+1:]
	if n, err := strconv.Atoi(port); network == "tcp" && err == nil && n > 0 && n < 65536 {
		return ""
	}
	return `a network and an address, such as "tcp:7400"`
}

// memory reads "64MiB".
func memory(s string) (int64, error) {
	for suffix, unit := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30} {
		if n, err := strconv.ParseInt(strings.TrimSuffix(s, suffix), 10, 32); strings.HasSuffix(s, suffix) && err == nil && n > 0 {
			return n * unit, nil
		}
	}
	return 0, errors.New(`a number of MiB or GiB, such as "64MiB"`)
}

// wholeSeconds reads "30s"; "" is 0.
func wholeSeconds(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > maxStop || d%time.Second != 0 {
		return 0, fmt.Errorf("whole seconds up to %v, such as \"30s\"", maxStop)
	}
	return int64(d / time.Second), nil
}

// maxStop is how long a machine that is told to stop may wait for one program.
const maxStop = 2 * time.Minute
