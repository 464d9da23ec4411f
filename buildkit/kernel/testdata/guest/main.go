// Command guest is PID 1 of boot_test.go's virtual machine. It tries on the running
// kernel what Dactyl's daemons and Kubernetes rely on, prints one line per
// promise, and powers off.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// checks run in this order; later ones use what earlier ones mounted.
var checks = []struct {
	name string
	try  func() error
}{
	{"mounts", mountAll},
	{"boot time", bootTime},
	{"command line is known", commandLineKnown},
	{"security modules", securityModules},
	{"sysctls", applySysctls},
	{"cgroup controllers", cgroupControllers},
	{"device filter in BPF", deviceFilter},
	{"namespaces", namespaces},
	{"user namespace as containerd makes it", tracedStart},
	{"overlay", overlay},
	{"landlock", landlock},
	{"partition table while mounted", writeWholeDisk},
	{"seccomp reaches the log", seccompLog},
	{"nothing to read the kernel by", noKernelFiles},
	{"kernel log is clean", logIsClean},
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		os.Exit(0)
	}
	for _, c := range checks {
		if err := c.try(); err != nil {
			fmt.Printf("FAIL %s: %v\n", c.name, err)
			continue
		}
		fmt.Printf("ok %s\n", c.name)
	}
	fmt.Println("done")
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func mountAll() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}, {"tmpfs", "/dev"},
		{"cgroup2", "/sys/fs/cgroup"}, {"securityfs", "/sys/kernel/security"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.at, err)
		}
	}
	if err := makeNodes(); err != nil {
		return err
	}
	_, err := os.Stat("/dev/vda")
	return err
}

// makeNodes fills /dev from what the kernel lists, as PID 1 does: there is no devtmpfs.
func makeNodes() error {
	for class, kind := range map[string]uint32{"char": unix.S_IFCHR, "block": unix.S_IFBLK} {
		files, err := filepath.Glob("/sys/dev/" + class + "/*/uevent")
		if err != nil {
			return err
		}
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			_, rest, named := strings.Cut(string(text), "DEVNAME=")
			name, _, _ := strings.Cut(rest, "\n")
			if !named || strings.Contains(name, "/") {
				continue
			}
			var major, minor uint32
			if _, err := fmt.Sscanf(filepath.Base(filepath.Dir(path)), "%d:%d", &major, &minor); err != nil {
				return err
			}
			if err := unix.Mknod("/dev/"+name, kind|0o600, int(unix.Mkdev(major, minor))); err != nil && err != unix.EEXIST {
				return fmt.Errorf("make /dev/%s: %w", name, err)
			}
		}
	}
	return nil
}

func bootTime() error {
	text, err := os.ReadFile("/proc/uptime")
	fmt.Printf("uptime %s\n", bytes.Fields(text)[0])
	return err
}

// commandLineKnown finds parameters that the kernel does not know. It counts among
// them four that it does read, but too early to have registered them.
func commandLineKnown() error {
	log, err := kernelLog()
	_, list, found := strings.Cut(log, "Unknown kernel command line parameters \"")
	if !found {
		return err
	}
	list, _, _ = strings.Cut(list, "\"")
	for word := range strings.FieldsSeq(list) {
		name, _, _ := strings.Cut(word, "=")
		if !slices.Contains([]string{"spectre_v2", "spectre_v2_user", "spec_store_bypass_disable", "tsx"}, name) {
			return errors.New(word)
		}
	}
	return nil
}

func securityModules() error {
	text, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		return err
	}
	for _, want := range []string{"lockdown", "yama", "landlock"} {
		if !slices.Contains(strings.Split(string(text), ","), want) {
			return fmt.Errorf("%s is not among %s", want, text)
		}
	}
	mode, err := os.ReadFile("/sys/kernel/security/lockdown")
	if !strings.Contains(string(mode), "[confidentiality]") {
		return fmt.Errorf("lockdown is %s", mode)
	}
	return err
}

func applySysctls() error {
	text, err := os.ReadFile("/sysctls")
	if err != nil {
		return err
	}
	var bad []error
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			bad = append(bad, err)
		}
	}
	// Read back when all are written: one may change another.
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		got, err := os.ReadFile(filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/")))
		if s := strings.TrimSpace(string(got)); err == nil && s != value {
			bad = append(bad, fmt.Errorf("%s is %s, not %s", key, s, value))
		}
	}
	return errors.Join(bad...)
}

func cgroupControllers() error {
	text, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return err
	}
	for _, want := range []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids"} {
		if !slices.Contains(strings.Fields(string(text)), want) {
			return fmt.Errorf("%s is not among %s", want, text)
		}
	}
	_, err = os.Stat("/sys/fs/cgroup/cpu.pressure")
	return err
}

// deviceFilter loads what runc loads, in its smallest form: allow everything.
func deviceFilter() error {
	const (
		progLoad, progAttach = 5, 8
		cgroupDevice         = 15 // program type
		attachDevice         = 6
	)
	insns := []uint64{0x00000001_000000b7, 0x95} // r0 = 1; exit
	license := []byte("Apache-2.0\x00")
	load := struct {
		progType, count uint32
		insns, license  uint64
		rest            [12]uint64
	}{cgroupDevice, 2, uint64(uintptr(unsafe.Pointer(&insns[0]))), uint64(uintptr(unsafe.Pointer(&license[0]))), [12]uint64{}}
	prog, _, errno := unix.Syscall(unix.SYS_BPF, progLoad, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	runtime.KeepAlive(insns)
	runtime.KeepAlive(license)
	if errno != 0 {
		return fmt.Errorf("load: %w", errno)
	}
	if err := os.Mkdir("/sys/fs/cgroup/pod", 0o755); err != nil {
		return err
	}
	group, err := os.Open("/sys/fs/cgroup/pod")
	if err != nil {
		return err
	}
	attach := struct{ target, prog, kind, flags, replace, _ uint32 }{uint32(group.Fd()), uint32(prog), attachDevice, 0, 0, 0}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, progAttach, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		return fmt.Errorf("attach: %w", errno)
	}
	return nil
}

func namespaces() error {
	cmd := exec.Command("/init", "child")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
			unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}},
	}
	return cmd.Run()
}

// tracedStart makes a process that stops before its first instruction, in a user
// namespace of its own, as containerd does for pods with hostUsers: false. The
// sysctl kernel.yama.ptrace_scope=3 forbids it.
func tracedStart() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/init", "child")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65536, Size: 65536}},
		Ptrace:      true,
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	cmd.Process.Kill()
	cmd.Wait()
	return nil
}

func overlay() error {
	for _, dir := range []string{"up", "work", "merged"} {
		if err := os.Mkdir("/run/"+dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", "/run/merged", "overlay", 0, "lowerdir=/,upperdir=/run/up,workdir=/run/work"); err != nil {
		return err
	}
	return os.WriteFile("/run/merged/new", nil, 0o644)
}

func landlock() error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return errno
	}
	if abi < 6 { // 6.12's: TCP ports, ioctls on devices, scoped signals
		return fmt.Errorf("version %d", abi)
	}
	return nil
}

// writeWholeDisk holds bdev_allow_write_mounted=0 against what storaged does:
// the partition table of a disk is rewritten while its partitions are mounted. The
// mounted partition itself must refuse.
func writeWholeDisk() error {
	const start, size = 1 << 20, 16 << 20
	disk, err := os.OpenFile("/dev/vdb", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	part := unix.BlkpgPartition{Start: start, Length: size, Pno: 1}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_ADD_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("add a partition: %w", errno)
	}
	if err := os.Mkdir("/run/state", 0o755); err != nil {
		return err
	}
	if err := waitFor("/dev/vdb1"); err != nil {
		return err
	}
	if err := unix.Mount("/dev/vdb1", "/run/state", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := os.WriteFile("/run/state/file", []byte("kept"), 0o600); err != nil {
		return err
	}
	again, err := os.OpenFile("/dev/vdb", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the whole disk: %w", err)
	}
	defer again.Close()
	if _, err := again.WriteAt(make([]byte, 4096), 0); err != nil {
		return fmt.Errorf("write the partition table: %w", err)
	}
	if err := again.Sync(); err != nil {
		return fmt.Errorf("sync the partition table: %w", err)
	}
	if f, err := os.OpenFile("/dev/vdb1", os.O_RDWR, 0); err == nil {
		f.Close()
		return errors.New("the mounted partition can be written")
	}
	part = unix.BlkpgPartition{Start: start, Length: size + 1<<20, Pno: 1}
	arg.Op = unix.BLKPG_RESIZE_PARTITION
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, again.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("grow a mounted partition: %w", errno)
	}
	return unix.Unmount("/run/state", 0)
}

func waitFor(path string) error {
	for range 50 {
		if err := makeNodes(); err != nil {
			return err
		}
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fs.ErrNotExist
}

// seccompLog asks the kernel to log one system call and to refuse nothing.
func seccompLog() error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the filter ends with this thread
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			done <- err
			return
		}
		filter := []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SYSINFO, Jf: 1},
			{Code: unix.BPF_RET, K: unix.SECCOMP_RET_LOG},
			{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
		}
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_LOG, uintptr(unsafe.Pointer(&prog)))
		if errno != 0 {
			done <- errno
			return
		}
		var info unix.Sysinfo_t
		done <- unix.Sysinfo(&info)
	}()
	if err := <-done; err != nil {
		return err
	}
	for range 50 { // kauditd prints a little later
		if log, _ := kernelLog(); strings.Contains(log, "type=1326") {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("no audit record of type 1326 (SECCOMP)")
}

func noKernelFiles() error {
	for _, path := range []string{"/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore", "/proc/kallsyms", "/proc/modules", "/sys/kernel/debug/x86", "/proc/config.gz"} {
		if _, err := os.Stat(path); err == nil {
			return fmt.Errorf("%s is there", path)
		}
	}
	return nil
}

func logIsClean() error {
	log, err := kernelLog()
	if err != nil {
		return err
	}
	var bad []string
	for line := range strings.Lines(log) {
		for _, sign := range []string{"WARNING:", "BUG:", "Oops", "Call Trace", "UBSAN", "KFENCE: ", "rcu: INFO", "lockdown: init:"} {
			if strings.Contains(line, sign) {
				bad = append(bad, strings.TrimSpace(line))
				break
			}
		}
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, " | "))
	}
	return nil
}

func kernelLog() (string, error) {
	buf := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return "", fmt.Errorf("read the kernel's log: %w", err)
	}
	return string(buf[:n]), nil
}
