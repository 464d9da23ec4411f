package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// freeze attacks PID 1 while it starts a program of the domain: it kills the program until
// PID 1 waits before the next start, makes the program's cgroup (its first argument) before
// PID 1 does, and freezes it. For every process that is in the cgroup during the next seconds
// it prints the name, the effective capabilities, and whether the file of its second argument
// can be read through the process's root.
func freeze(args []string) error {
	group, file := args[0], args[1]
	const within = 2 * time.Minute
	end := time.Now().Add(within)
	for kills := 0; ; {
		if time.Now().After(end) {
			return fmt.Errorf("after %v and %d kills the cgroup was never gone", within, kills)
		}
		for _, pid := range pidsIn(group) {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				kills++
			}
		}
		if kills >= 4 && os.Mkdir(group, 0o755) == nil {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err := os.WriteFile(filepath.Join(group, "cgroup.freeze"), []byte("1"), 0); err != nil {
		return err
	}
	seen := map[string]bool{}
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		for _, pid := range pidsIn(group) {
			dir := fmt.Sprintf("/proc/%d/", pid)
			name, _ := os.ReadFile(dir + "comm")
			status, _ := os.ReadFile(dir + "status")
			_, rights, _ := strings.Cut(string(status), "CapEff:")
			rights, _, _ = strings.Cut(rights, "\n")
			if rights == "" {
				continue // it has gone
			}
			_, err := os.ReadFile(dir + "root" + file)
			line := fmt.Sprintln(strings.TrimSpace(string(name)), strings.TrimSpace(rights), err)
			if !seen[line] {
				seen[line] = true
				fmt.Print(line)
			}
		}
	}
	os.WriteFile(filepath.Join(group, "cgroup.freeze"), []byte("0"), 0)
	return nil
}

// pidsIn returns the processes in a cgroup, as far as this namespace has them.
func pidsIn(group string) (pids []int) {
	text, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	for word := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}
