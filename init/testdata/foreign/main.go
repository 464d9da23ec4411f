// Command foreign is a program that knows nothing of PID 1, as others write them.
// Its first argument is the socket on which it tells what it sees and does as it is
// told; with "first" it is the first process of a domain.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// report is what the program sees. init's tests decode it.
type report struct {
	Args, Environment []string
	PID, UID, GID     int
	Status            map[string]string // /proc/self/status, where there is one
	OpenFiles         uint64            // limit
	Processes         map[int]string    // of /proc: the first argument
	Mounts            []string
	Cgroup            string
	Descriptors       int
	Device            []string // names in /dev
}

func main() {
	if os.Args[1] == "first" {
		hold()
	}
	if os.Args[1] == "linger" {
		unix.Pause()
	}
	os.Remove(os.Args[1])
	l, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, "here I am")
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		command, _ := bufio.NewReader(c).ReadString('\n')
		answer(c, strings.Fields(command))
		c.Close()
	}
}

// hold reaps until it is told to stop.
func hold() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGCHLD)
	for s := range signals {
		if s == unix.SIGTERM {
			os.Exit(0)
		}
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

func answer(c net.Conn, words []string) {
	switch words[0] {
	case "report":
		json.NewEncoder(c).Encode(look())
	case "read":
		text, err := os.ReadFile(words[1])
		fmt.Fprintln(c, strings.TrimSpace(string(text)), err)
	case "write":
		fmt.Fprintln(c, write(words[1], words[2]))
	case "open":
		f, err := os.OpenFile(words[1], os.O_RDWR, 0)
		if err == nil {
			f.Close()
		}
		fmt.Fprintln(c, err)
	case "disk": // NODE TYPE
		fmt.Fprintln(c, useDisk(words[1], words[2]))
	case "overlay":
		fmt.Fprintln(c, mountOverlay())
	case "group": // as a kubelet makes them
		fmt.Fprintln(c, makeGroup("/sys/fs/cgroup/"+words[1]))
	case "populated":
		text, err := os.ReadFile("/sys/fs/cgroup/" + words[1] + "/cgroup.events")
		if err != nil {
			fmt.Fprintln(c, err)
			break
		}
		c.Write(text)
	case "filters":
		n, err := countFilters(words[1])
		fmt.Fprintln(c, n, err)
	case "mount":
		fmt.Fprintln(c, unix.Mount("tmpfs", words[1], "tmpfs", 0, ""))
	case "sysfs": // mounts another one at DIR and opens FILE in it to write, and writes nothing
		fmt.Fprintln(c, openInSysfs(words[1], words[2]))
	case "exec":
		fmt.Fprintln(c, unix.Exec(words[1], []string{words[1]}, nil))
	case "node": // node b 8 1
		fmt.Fprintln(c, useNode(words[1], number(words[2]), number(words[3])))
	case "copy": // execute a copy of itself there
		fmt.Fprintln(c, runCopy(words[1]))
	case "orphan":
		fmt.Fprintln(c, leaveOrphan())
	case "create": // a file in a directory that is made if need be
		fmt.Fprintln(c, create(words[1]))
	case "trap":
		fmt.Fprintln(c, trap(words[1]))
	case "catch":
		fmt.Fprintln(c, catch(words[1]))
	case "hold":
		held, err := hold1.hold(words[1])
		if err != nil {
			held.Err = err.Error()
		}
		fmt.Fprintln(c, held)
	case "scribble":
		fmt.Fprintln(c, hold1.scribble())
	case "release":
		fmt.Fprintln(c, hold1.release())
	case "time":
		fmt.Fprintln(c, unix.Settimeofday(&unix.Timeval{Sec: 1}))
	}
}

func openInSysfs(dir, file string) error {
	if err := unix.Mount("sysfs", dir, "sysfs", 0, ""); err != nil {
		return err
	}
	defer unix.Unmount(dir, 0)
	f, err := os.OpenFile(dir+"/"+file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// write writes to a file that is there.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func create(dir string) error {
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "created"), nil, 0o644)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// countFilters returns how many device filters are attached to a cgroup.
func countFilters(path string) (uint32, error) {
	group, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer group.Close()
	query := struct {
		target, kind, flags, attachFlags uint32
		programs                         uint64
		count                            uint32
		_                                uint32
	}{target: uint32(group.Fd()), kind: unix.BPF_CGROUP_DEVICE}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&query)), unsafe.Sizeof(query))
	if errno != 0 {
		return 0, errno
	}
	return query.count, nil
}

// useDisk opens a disk and mounts it; both may be refused.
func useDisk(node, kind string) string {
	f, opened := os.Open(node)
	if opened == nil {
		f.Close()
	}
	top := filepath.Join(filepath.Dir(os.Args[1]), "disk")
	if err := os.MkdirAll(top, 0o755); err != nil {
		return err.Error()
	}
	mounted := unix.Mount(node, top, kind, unix.MS_RDONLY, "")
	if mounted == nil {
		unix.Unmount(top, 0)
	}
	return fmt.Sprintf("open: %v; mount: %v", errors.Unwrap(opened), mounted)
}

// mountOverlay mounts one as a container's root is, on directories of the domain.
func mountOverlay() error {
	top := filepath.Dir(os.Args[1])
	for _, dir := range []string{"lower", "upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			return err
		}
	}
	root := filepath.Join(top, "root")
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", top, top, top)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return err
	}
	return unix.Unmount(root, 0)
}

// makeGroup makes a cgroup with controllers and a process in a leaf.
func makeGroup(top string) error {
	leaf := filepath.Join(top, "leaf")
	if err := os.Mkdir(top, 0o755); err != nil {
		return err
	}
	if err := write(filepath.Join(top, "cgroup.subtree_control"), "+memory +cpu +pids"); err != nil {
		return err
	}
	if err := os.Mkdir(leaf, 0o755); err != nil {
		return err
	}
	group, err := os.Open(leaf)
	if err != nil {
		return err
	}
	defer group.Close()
	linger := exec.Command("/proc/self/exe", "linger")
	linger.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	return linger.Start()
}

func number(text string) uint32 {
	n, _ := strconv.ParseUint(text, 10, 32)
	return uint32(n)
}

func useNode(kind string, major, minor uint32) error {
	mode := uint32(unix.S_IFCHR)
	if kind == "b" {
		mode = unix.S_IFBLK
	}
	path := filepath.Join(filepath.Dir(os.Args[1]), "node")
	defer os.Remove(path)
	if err := unix.Mknod(path, mode|0o600, int(unix.Mkdev(major, minor))); err != nil {
		return fmt.Errorf("make: %w", err)
	}
	f, err := os.Open(path)
	if err == nil {
		f.Close()
	}
	return err
}

func runCopy(dir string) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "copy")
	defer os.Remove(path)
	if err := os.WriteFile(path, program, 0o700); err != nil {
		return err
	}
	return exec.Command(path, filepath.Join(dir, "nowhere", "socket")).Start()
}

// leaveOrphan starts a process whose parent has ended.
func leaveOrphan() error {
	return exec.Command("/proc/self/exe", "linger").Start()
}

func look() report {
	r := report{
		Args: os.Args, Environment: os.Environ(), PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(),
		Status: map[string]string{}, Processes: map[int]string{},
	}
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		r.Status[key] = strings.TrimSpace(value)
	}
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	r.OpenFiles = limit.Max
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range commands {
		words, _ := os.ReadFile(path)
		name, _, _ := strings.Cut(string(words), "\x00")
		r.Processes[int(number(filepath.Base(filepath.Dir(path))))] = filepath.Base(name)
	}
	text, _ = os.ReadFile("/proc/self/mountinfo")
	r.Mounts = strings.Split(strings.TrimSpace(string(text)), "\n")
	text, _ = os.ReadFile("/proc/self/cgroup")
	r.Cgroup = string(text)
	fds, _ := os.ReadDir("/proc/self/fd")
	r.Descriptors = len(fds)
	nodes, _ := os.ReadDir("/dev")
	for _, n := range nodes {
		r.Device = append(r.Device, n.Name())
	}
	return r
}
