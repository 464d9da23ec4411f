package main

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// capabilityNames are the kernel's, by number (uapi/linux/capability.h).
var capabilityNames = strings.Fields(`
	CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK
	IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
	SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE
	AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND
	AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// capabilitySet has bit n for capability n.
type capabilitySet uint64

func capabilityMask(names []string) (capabilitySet, error) {
	var set capabilitySet
	for _, name := range names {
		n := slices.Index(capabilityNames, name)
		if n < 0 {
			return 0, fmt.Errorf("no capability %q", name)
		}
		set |= 1 << n
	}
	return set, nil
}

// names lists the set in the kernel's order.
func (s capabilitySet) names() []string {
	var all []string
	for ; s != 0; s &= s - 1 {
		if n := bits.TrailingZeros64(uint64(s)); n < len(capabilityNames) {
			all = append(all, capabilityNames[n])
		} else {
			all = append(all, fmt.Sprint(n))
		}
	}
	return all
}
