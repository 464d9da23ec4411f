package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file keeps domains from the disks and the memory of the machine, whatever
// nodes their programs make: a BPF program on the cgroup above all domains is asked
// before any device is opened, mounted or made. The kernel asks those of cgroups
// below as well, so that a container's own filter only narrows it. A domain's root
// may take filters off cgroups that it can open, and this one is above its
// namespace.

// Of struct bpf_cgroup_dev_ctx, whose first field holds the type in its lower half.
const (
	devTypeOffset  = 0
	devMajorOffset = 4
	devMinorOffset = 8
)

// deniedNodes are character devices that reach through every wall, whether this
// kernel has them or not.
var deniedNodes = []struct{ major, minor int32 }{
	{1, 1}, {1, 2}, {1, 4}, // mem, kmem, port: all memory
	{10, 130}, // watchdog: restarts the machine
	{10, 224}, // tpm0: the machine's identity
	{10, 236}, // device-mapper: what the root is made of
}

// deniedDrivers are others whose majors the kernel assigns when it boots, by their
// names in /proc/devices: commands to disks, and the TPM.
var deniedDrivers = []string{"sg", "bsg", "nvme", "nvme-generic", "tpm", "watchdog"}

// instruction is struct bpf_insn.
type instruction struct {
	code      uint8
	registers uint8 // destination in the lower half, source in the upper
	offset    int16
	value     int32
}

// Of linux/bpf.h, composed as far as they are used.
const (
	bpfLoad32    = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	bpfAndValue  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	bpfJumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfJumpOther = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	bpfSetValue  = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	bpfExit      = unix.BPF_JMP | unix.BPF_EXIT
)

// Registers: of the answer, of the context that the kernel gives, and of what is
// asked about.
const (
	regResult  = 0
	regContext = 1
	regType    = 2
	regMajor   = 3
	regMinor   = 4
)

// deviceFilter answers 1 for what is allowed.
func deviceFilter(majors []int32) []instruction {
	load := func(register uint8, offset int16) instruction {
		return instruction{bpfLoad32, register | regContext<<4, offset, 0}
	}
	var f []instruction
	var denials []int // jumps to the end, which is not known yet
	deny := func(register uint8, value int32) {
		denials = append(denials, len(f))
		f = append(f, instruction{bpfJumpEqual, register, 0, value})
	}
	f = append(f, load(regType, devTypeOffset), load(regMajor, devMajorOffset), load(regMinor, devMinorOffset),
		instruction{bpfAndValue, regType, 0, 0xFFFF})
	deny(regType, unix.BPF_DEVCG_DEV_BLOCK)
	for _, m := range majors {
		deny(regMajor, m)
	}
	for _, n := range deniedNodes {
		f = append(f, instruction{bpfJumpOther, regMajor, 1, n.major})
		deny(regMinor, n.minor)
	}
	f = append(f, instruction{bpfSetValue, regResult, 0, 1}, instruction{code: bpfExit})
	for _, i := range denials {
		f[i].offset = int16(len(f) - i - 1)
	}
	return append(f, instruction{bpfSetValue, regResult, 0, 0}, instruction{code: bpfExit})
}

// filterDevices puts the filter on a cgroup, for as long as the cgroup is there.
func filterDevices(group *os.File) error {
	majors, err := majorsOf(deniedDrivers)
	if err != nil {
		return err
	}
	filter, err := loadFilter(deviceFilter(majors))
	if err != nil {
		return err
	}
	defer unix.Close(filter)
	attach := struct{ target, program, kind, flags uint32 }{
		uint32(group.Fd()), uint32(filter), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI,
	}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attach), unsafe.Sizeof(attach)); err != nil {
		return fmt.Errorf("attach the device filter to %s: %w", group.Name(), err)
	}
	return nil
}

func loadFilter(f []instruction) (int, error) {
	license := []byte("Apache-2.0\x00")
	load := struct {
		kind, count       uint32
		program, license  uintptr
		logLevel, logSize uint32
		log               uintptr
		version, flags    uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(f)),
		program: uintptr(unsafe.Pointer(&f[0])), license: uintptr(unsafe.Pointer(&license[0])),
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&load), unsafe.Sizeof(load))
	runtime.KeepAlive(f)
	runtime.KeepAlive(license)
	if err != nil {
		return 0, fmt.Errorf("load the device filter: %w", err)
	}
	return fd, nil
}

func bpf(command uintptr, attributes unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attributes), size)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// majorsOf returns the character majors of those drivers that the kernel has now.
func majorsOf(drivers []string) ([]int32, error) {
	devices, err := os.Open("/proc/devices")
	if err != nil {
		return nil, err
	}
	defer devices.Close()
	var majors []int32
	lines := bufio.NewScanner(devices)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Block") {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && slices.Contains(drivers, fields[1]) {
			n, err := strconv.ParseInt(fields[0], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("/proc/devices: %w", err)
			}
			majors = append(majors, int32(n))
		}
	}
	return majors, lines.Err()
}
