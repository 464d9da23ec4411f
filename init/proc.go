package main

import (
	"os"
	"strconv"
	"strings"
)

// procDir is /proc/PID of one process. A process may end while it is read; then
// its figures are zero.
type procDir string

// statusFile is /proc/PID/status by key.
type statusFile map[string]string

func (p procDir) read(name string) string {
	text, _ := os.ReadFile(string(p) + "/" + name)
	return string(text)
}

func (p procDir) status() statusFile {
	st := statusFile{}
	for line := range strings.Lines(p.read("status")) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			st[key] = strings.TrimSpace(value)
		}
	}
	return st
}

func (s statusFile) capabilities(key string) capabilitySet {
	n, _ := strconv.ParseUint(s[key], 16, 64)
	return capabilitySet(n)
}

func (s statusFile) kilobytes(key string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSuffix(s[key], " kB"), 10, 64)
	return n << 10
}

// pss returns the proportional set size in bytes. Our kernel is built without
// the files that tell it; there it is the resident set, which is the same as long
// as no two processes map the same file: each daemon is a program of its own.
func (p procDir) pss() uint64 {
	for line := range strings.Lines(p.read("smaps_rollup")) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			return statusFile{"": strings.TrimSpace(value)}.kilobytes("")
		}
	}
	return p.status().kilobytes("VmRSS")
}

// namespaceNames are those that a daemon can have of its own.
var namespaceNames = []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}

// namespaces returns name → mnt:[4026531840].
func (p procDir) namespaces() map[string]string {
	all := map[string]string{}
	for _, name := range namespaceNames {
		if id, err := os.Readlink(string(p) + "/ns/" + name); err == nil {
			all[name] = id
		}
	}
	return all
}
