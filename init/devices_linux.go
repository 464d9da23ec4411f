package main

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file keeps domains from the devices of the machine, whatever nodes their programs
// make: a BPF program on the cgroup above all domains is asked before any device is opened,
// mounted or made. The kernel asks those of cgroups
// below as well, so that a container's own filter only narrows it. A domain's root
// may take filters off cgroups that it can open, and this one is above its
// namespace.

// Of struct bpf_cgroup_dev_ctx, whose first field holds the type in its lower half.
const (
	devTypeOffset  = 0
	devMajorOffset = 4
	devMinorOffset = 8
)

// allowedNodes are the character devices that a domain may have: those that containers get
// by default, but for the console, and those that network agents and file systems in programs
// ask for. All other devices are refused, whether this kernel has them or not: disks, raw
// commands to them (sg, bsg, nvme), USB devices, through which a program takes the machine's
// stick from its driver, memory, the device mapper, the TPM, the watchdog, consoles and
// screens, input, clocks. A device of a domain's [devices] must be here, too.
var allowedNodes = []struct{ major, minor int32 }{
	{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, // null, zero, full, random, urandom
	{1, 11},        // kmsg, which kubelet reads
	{5, 0}, {5, 2}, // tty and ptmx
	{136, anyMinor},      // pts/*
	{10, 200}, {10, 229}, // net/tun, fuse
}

const anyMinor = -1

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
func deviceFilter() []instruction {
	load := func(register uint8, offset int16) instruction {
		return instruction{bpfLoad32, register | regContext<<4, offset, 0}
	}
	f := []instruction{
		load(regType, devTypeOffset), load(regMajor, devMajorOffset), load(regMinor, devMinorOffset),
		{bpfAndValue, regType, 0, 0xFFFF},
		{bpfJumpEqual, regType, 2, unix.BPF_DEVCG_DEV_CHAR},
		{bpfSetValue, regResult, 0, 0}, {code: bpfExit},
	}
	var allowances []int // jumps to the end, which is not known yet
	allow := func(register uint8, value int32) {
		allowances = append(allowances, len(f))
		f = append(f, instruction{bpfJumpEqual, register, 0, value})
	}
	for _, n := range allowedNodes {
		if n.minor == anyMinor {
			allow(regMajor, n.major)
			continue
		}
		f = append(f, instruction{bpfJumpOther, regMajor, 1, n.major})
		allow(regMinor, n.minor)
	}
	f = append(f, instruction{bpfSetValue, regResult, 0, 0}, instruction{code: bpfExit})
	for _, i := range allowances {
		f[i].offset = int16(len(f) - i - 1)
	}
	return append(f, instruction{bpfSetValue, regResult, 0, 1}, instruction{code: bpfExit})
}

// filterDevices puts the filter on a cgroup, for as long as the cgroup is there.
func filterDevices(group *os.File) error {
	filter, err := loadFilter(deviceFilter())
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
