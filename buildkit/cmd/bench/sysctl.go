package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dactyl-os/dactyl/buildkit/kernel"
)

// kubeletChecks are the settings of the kernel without which the kubelet does not start. On
// a machine of its own PID 1 makes them; natively the kernel is the build machine's, and
// PID 1 leaves it alone.
var kubeletChecks = []string{
	"vm.overcommit_memory", "vm.panic_on_oom", "kernel.panic", "kernel.panic_on_oops",
	"kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes",
}

// lendSysctls has this machine's kernel set as Dactyl's for a measurement; restore puts
// back what was there.
func lendSysctls(keys []string) (restore func() error, err error) {
	before := map[string]string{} // by file
	restore = func() error {
		var errs []error
		for file, value := range before {
			errs = append(errs, os.WriteFile(file, []byte(value), 0))
		}
		return errors.Join(errs...)
	}
	for _, key := range keys {
		i := slices.IndexFunc(kernel.Sysctls, func(s kernel.Sysctl) bool { return s.Key == key })
		if i < 0 {
			panic("BUG: Dactyl does not set " + key)
		}
		file := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
		was, err := os.ReadFile(file)
		if err != nil {
			return nil, errors.Join(err, restore())
		}
		want := kernel.Sysctls[i].Value
		if strings.TrimSpace(string(was)) == want {
			continue
		}
		before[file] = string(was)
		if err := os.WriteFile(file, []byte(want), 0); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: the kubelet wants %s=%s", err, key, want), restore())
		}
		progress("%s=%s meanwhile, was %s", key, want, strings.TrimSpace(string(was)))
	}
	return restore, nil
}
