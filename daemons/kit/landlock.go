package kit

import (
	"path/filepath"
	"slices"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// landlockABI is that of the image's kernel: files, devices' ioctls, TCP, and
// scopes for signals and abstract sockets. A newer one may restrict what daemons
// need (9: connecting to a socket's path), so raise it only with the kernel.
const landlockABI = 6

const (
	readOnly  landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSReadDir
	useDevice                      = readOnly | ll.AccessFSWriteFile | ll.AccessFSIoctlDev
	// readWrite leaves out nodes, sockets, fifos and, as everything here, execution.
	readWrite = readOnly | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRefer |
		ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSym | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile
)

// signalErratum is the fix without which scoped signals stop Go's runtime from
// reaching its own threads; go-landlock then leaves scopes out.
const signalErratum = 1 << 1

// landlockSelf restricts all threads and returns the ABI version in force, 0
// where there is no Landlock.
func landlockSelf(spec *abi.Spec) (int, error) {
	version := landlockVersion()
	if version == 0 {
		return 0, nil
	}
	config, rules := landlockRules(spec)
	return version, config.BestEffort().Restrict(rules...)
}

func landlockVersion() int {
	version, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	if fixed, err := ll.LandlockGetErrata(); err != nil || fixed&signalErratum == 0 {
		version = min(version, landlockABI-1)
	}
	return min(version, landlockABI)
}

// landlockRules is what spec allows: everything handled by the config and not
// named by a rule is refused.
func landlockRules(spec *abi.Spec) (landlock.Config, []landlock.Rule) {
	config := landlock.V6
	writable := slices.Clone(spec.Write)
	if spec.Gives {
		writable = append(writable, filepath.Join(abi.ShareDir, spec.Name))
	}
	rules := []landlock.Rule{
		landlock.PathAccess(readOnly, "/"), // its own root: what is not its own is not there
		landlock.PathAccess(useDevice, "/dev"),
		landlock.PathAccess(readWrite, writable...),
	}
	if slices.Contains(spec.Syscalls, "mount") {
		config.HandledAccessFS = 0 // under any file rule the kernel refuses mount(2)
		rules = nil
	}
	if slices.Contains(spec.Syscalls, "network") {
		// Whoever may open sockets may connect to any port; nobody may bind one, as
		// PID 1 does that. Port 0 is how the net package asks whether there is IPv6.
		config.HandledAccessNet = ll.AccessNetBindTCP
		rules = append(rules, landlock.BindTCP(0))
	}
	return config, rules
}
