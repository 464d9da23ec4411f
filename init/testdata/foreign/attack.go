package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is what the root of a domain tries against PID 1 while PID 1 starts another member
// of the domain.

// secret is a file of the machine that the domain does not have.
const secret = "/state/trustd/authority.pem"

// caught is a process that has not reached its program. init's tests decode it.
type caught struct {
	PID         int
	Comm        string
	Status      map[string]string
	Secret      string            // what reading secret through its root comes to
	Namespaces  map[string]string // those that are not the attacker's
	Cgroup      string
	Descriptors []string
	Shared      []string // mappings that it shares with others and can write
	Err         string
}

func (c caught) String() string {
	text, _ := json.Marshal(c)
	return string(text)
}

// members returns the processes in a cgroup of the domain.
func members(group string) (pids []int) {
	text, _ := os.ReadFile(filepath.Join(groups, group, "cgroup.procs"))
	for word := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

const groups = "/sys/fs/cgroup"

// trap kills a member until PID 1 waits before it starts the next one, makes the member's
// cgroup meanwhile and freezes it. It returns what is in there some time later.
func trap(member string) (all []caught) {
	group := filepath.Join(groups, member)
	for kills := 0; ; {
		if pids := members(member); len(pids) > 0 {
			unix.Kill(pids[0], unix.SIGKILL)
			kills++
		}
		if kills >= 4 && os.Mkdir(group, 0o755) == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := write(filepath.Join(group, "cgroup.freeze"), "1"); err != nil {
		return []caught{{Err: err.Error()}}
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, pid := range members(member) {
			if c := inspect(pid); c.Comm == "init" {
				all = append(all, c)
			}
		}
		if len(all) > 0 {
			break
		}
	}
	write(filepath.Join(group, "cgroup.freeze"), "0")
	return all
}

// catch kills a member and stops the next one before it has reached its program, by guessing
// its pid.
func catch(member string) caught {
	old := members(member)
	if len(old) == 0 {
		return caught{Err: "it does not run"}
	}
	last := lastPID()
	unix.Kill(old[0], unix.SIGKILL)
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); {
		for pid := last + 1; pid < last+8; pid++ {
			if unix.Kill(pid, unix.SIGSTOP) != nil || comm(pid) == "" {
				continue
			}
			c := inspect(pid)
			unix.Kill(pid, unix.SIGCONT)
			return c
		}
	}
	return caught{Err: "it was not seen"}
}

func lastPID() int {
	last := 0
	processes, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	for _, path := range processes {
		last = max(last, int(number(filepath.Base(path))))
	}
	return last
}

func comm(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(text))
}

// inspect is all that the domain's root learns of a process.
func inspect(pid int) caught {
	dir := fmt.Sprintf("/proc/%d/", pid)
	c := caught{PID: pid, Comm: comm(pid), Status: map[string]string{}, Namespaces: map[string]string{}}
	text, err := os.ReadFile(dir + "root" + secret)
	c.Secret = fmt.Sprintf("%s%v", text, err)
	text, _ = os.ReadFile(dir + "status")
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); strings.HasPrefix(key, "Cap") {
			c.Status[key] = strings.TrimSpace(value)
		}
	}
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		own, _ := os.Readlink("/proc/self/ns/" + name)
		if is, err := os.Readlink(dir + "ns/" + name); err != nil || is != own {
			c.Namespaces[name] = fmt.Sprint(is, err)
		}
	}
	text, _ = os.ReadFile(dir + "cgroup")
	c.Cgroup = strings.TrimSpace(string(text))
	fds, _ := os.ReadDir(dir + "fd")
	for _, fd := range fds {
		is, _ := os.Readlink(dir + "fd/" + fd.Name())
		c.Descriptors = append(c.Descriptors, is)
	}
	text, _ = os.ReadFile(dir + "maps")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[1][1] == 'w' && f[1][3] == 's' {
			c.Shared = append(c.Shared, strings.TrimSpace(line))
		}
	}
	return c
}

// holder keeps processes from executing a program, with fanotify.
type holder struct {
	events int
	held   unix.FanotifyEventMetadata
	report int // its descriptor of PID 1's report pipe, taken
}

var hold1 holder

// hold kills a member and keeps the next one from executing its program, for as long as
// nobody lets it go. It takes the report pipe from it: the last descriptor that it has.
func (h *holder) hold(member string) (c caught, err error) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return c, err
	}
	if h.events == 0 {
		if h.events, err = unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY); err != nil {
			return c, fmt.Errorf("fanotify_init: %w", err)
		}
		if err = unix.FanotifyMark(h.events, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, program); err != nil {
			return c, fmt.Errorf("fanotify_mark: %w", err)
		}
	}
	for _, pid := range members(member) {
		unix.Kill(pid, unix.SIGKILL)
	}
	if err := h.next(); err != nil {
		return c, err
	}
	c = inspect(int(h.held.Pid))
	process, err := unix.PidfdOpen(int(h.held.Pid), 0)
	if err != nil {
		return c, err
	}
	defer unix.Close(process)
	h.report, err = unix.PidfdGetfd(process, lastDescriptor(int(h.held.Pid)), 0)
	return c, err
}

// next waits for a process that is to execute the program.
func (h *holder) next() error {
	ready := []unix.PollFd{{Fd: int32(h.events), Events: unix.POLLIN}}
	if n, err := unix.Poll(ready, 8000); n != 1 {
		return fmt.Errorf("nobody executes it: %w", err)
	}
	_, err := unix.Read(h.events, (*[unsafe.Sizeof(h.held)]byte)(unsafe.Pointer(&h.held))[:])
	return err
}

func lastDescriptor(pid int) int {
	last := 0
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, fd := range fds {
		last = max(last, int(number(fd.Name())))
	}
	return last
}

// scribble writes a report of a step that there is not, in the name of the held process.
func (h *holder) scribble() error {
	_, err := unix.Write(h.report, binary.NativeEndian.AppendUint64(nil, 1<<63|99999))
	return err
}

// release lets all go on.
func (h *holder) release() error {
	if h.events == 0 {
		return errors.New("nothing is held")
	}
	unix.Close(h.report)
	err := unix.Close(h.events) // and so allows what has not been answered
	*h = holder{}
	return err
}
