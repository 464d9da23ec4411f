package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

const (
	// memoryLimit is where PID 1's garbage collector begins to work hard. It
	// lives on a few MiB; the rest is for a flood of calls.
	memoryLimit = 24 << 20
	// gcPercent keeps its heap small.
	gcPercent = 50
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: only the kernel starts this program")
		os.Exit(1)
	}
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(gcPercent)
	how, err := run()
	if err != nil {
		// The kernel panics when PID 1 ends, and boots again.
		shout("cannot go on: %v", err)
		unix.Sync()
		os.Exit(1)
	}
	leave(how)
}

// run is the machine's life: mount, load, serve, supervise. It returns how the
// machine is to end once all daemons are down.
func run() (ending, error) {
	if err := mountAll(isNative); err != nil {
		return 0, err
	}
	native := isNative()
	if !native {
		if err := makeBasicNodes("/dev"); err != nil {
			return 0, err
		}
	}
	pipe, err := newLogPipe()
	if err != nil {
		return 0, err
	}
	log := journal{pipe: pipe.write, echo: native}
	system, err := loadSystem(abi.SystemPath)
	if err != nil {
		return 0, err
	}
	if !native {
		// Whoever watches the console learns that the kernel's part is over.
		fmt.Printf("Dactyl %s: starting %d daemons\n", system.Version, len(system.Daemons))
		prepareMachine(log, system)
	}
	m, err := newMachine(system, log, pipe, native)
	if err != nil {
		return 0, err
	}
	if err := m.serve(); err != nil {
		return 0, err
	}
	if !native {
		if err := captureOutput(m.launcher.null); err != nil {
			return 0, err
		}
	}
	log.info("up version=%s mode=%s daemons=%d", system.Version, system.Mode, len(system.Daemons))
	return m.supervise(), nil
}

// prepareMachine sets what belongs to the whole machine. None of it is worth not
// booting for.
func prepareMachine(log journal, s *abi.System) {
	for _, err := range applySysctls(abi.SysctlsPath, "/proc/sys") {
		log.warn("sysctl: %v", err)
	}
	if err := setConntrack("/proc/sys"); err != nil {
		log.warn("connection tracking: %v", err)
	}
	if err := advanceClock(s.Epoch); err != nil {
		log.warn("%v", err)
	}
	// Ctrl-Alt-Del becomes a signal, so that it ends the machine in order.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		log.warn("take over ctrl-alt-del: %v", err)
	}
}

// leave ends the machine, or just this process where there is none.
func leave(how ending) {
	native := isNative()
	killEverything()
	if native {
		os.Exit(0)
	}
	releaseVolumes()
	if err := unix.Reboot(how.command()); err != nil {
		panic(fmt.Sprintf("%v: %v", how, err)) // and so boot again
	}
	time.Sleep(time.Hour) // the kernel is on its way down
}
