// Command daemon is what PID 1's tests start: it tells whoever connects what it
// sees of the machine, and does as it is told.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// version is set by the linker to tell a replaced binary from the first.
var version = "1"

// report is what the daemon sees. init's tests decode it.
type report struct {
	Version     string
	PID         int
	UID, GID    int
	Groups      []int
	Effective   uint64
	Permitted   uint64
	Ambient     uint64
	Bounding    uint64
	NoNewPrivs  int
	Securebits  int
	Files       []string // all below /
	Environment []string
	Interfaces  []string
	Descriptors []int
	CanWrite    []string // directories
	CanExecute  string   // of a file that it wrote
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "started" {
		json.NewEncoder(os.Stdout).Encode(look(abi.Spec{}, openDescriptors()))
		return
	}
	var spec abi.Spec
	if err := json.Unmarshal([]byte(os.Getenv(abi.SpecEnv)), &spec); err != nil {
		fail(err)
	}
	descriptors := openDescriptors()
	switch spec.Name {
	case "misfit":
		os.Exit(abi.ExitMisconfigured)
	case "crasher":
		os.Exit(abi.ExitTemporary)
	}
	if version == "broken" {
		os.Exit(3)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	var listeners []net.Listener
	var serving sync.WaitGroup
	for i, d := range spec.Descriptors {
		if d.Kind == abi.LogPipe {
			continue
		}
		l, err := net.FileListener(os.NewFile(uintptr(abi.FirstFD+i), d.Name))
		if err != nil {
			fail(err)
		}
		listeners = append(listeners, l)
		serving.Go(func() { serve(l, spec, descriptors) })
	}
	fmt.Fprintf(os.Stderr, "INFO here is %s\n", spec.Name)
	notify("landlock=6")
	for {
		select {
		case <-term:
			for _, l := range listeners {
				l.Close()
			}
			serving.Wait()
			os.Exit(abi.ExitDone)
		case <-time.After(abi.WatchdogInterval):
			notify("")
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(abi.ExitTemporary)
}

func notify(line string) { unix.Write(abi.NotifyFD, []byte(line+"\n")) }

func serve(l net.Listener, spec abi.Spec, descriptors []int) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		command, _ := bufio.NewReader(c).ReadString('\n')
		words := strings.Fields(command)
		switch {
		case len(words) == 1 && words[0] == "report":
			json.NewEncoder(c).Encode(look(spec, descriptors))
		case len(words) == 1 && words[0] == "version":
			fmt.Fprintln(c, version)
		case len(words) == 1 && words[0] == "args":
			fmt.Fprintln(c, strings.Join(os.Args, " "))
		case len(words) == 3 && words[0] == "give":
			fmt.Fprintln(c, give(words[1], words[2]))
		case len(words) == 2 && words[0] == "read":
			text, err := os.ReadFile(words[1])
			fmt.Fprintln(c, string(text), err)
		case len(words) == 2 && words[0] == "start":
			fmt.Fprintln(c, start(words[1]))
		case len(words) == 2 && words[0] == "mount":
			fmt.Fprintln(c, unix.Mount("tmpfs", words[1], "tmpfs", 0, "mode=0755"))
		}
		c.Close()
	}
}

// start starts a copy of the daemon without capabilities, as storaged starts e2fsck, and
// returns its report.
func start(path string) string {
	done := make(chan string)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends without its rights
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
			done <- err.Error()
			return
		}
		c := exec.Command(path, "started")
		c.Env = []string{}
		said, err := c.Output()
		if err != nil {
			said = []byte(err.Error())
		}
		done <- string(said)
	}()
	return <-done
}

// give writes a file for another daemon, whole or not at all.
func give(path, text string) error {
	coming := path + ".new"
	if err := os.WriteFile(coming, []byte(text), 0o640); err != nil {
		return err
	}
	if err := os.Chmod(coming, 0o640); err != nil { // the umask takes the group's right
		return err
	}
	return os.Rename(coming, path)
}

func look(spec abi.Spec, descriptors []int) report {
	r := report{
		Version: version, PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(),
		Environment: os.Environ(), Descriptors: descriptors,
	}
	r.Groups, _ = os.Getgroups()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	unix.Capget(&head, &data[0])
	r.Effective = uint64(data[0].Effective) | uint64(data[1].Effective)<<32
	r.Permitted = uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32
	for n := range 64 {
		if in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err == nil && in == 1 {
			r.Bounding |= 1 << n
		}
		if in, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(n), 0, 0); err == nil && in == 1 {
			r.Ambient |= 1 << n
		}
	}
	r.NoNewPrivs, _ = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	r.Securebits, _ = unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		r.Interfaces = append(r.Interfaces, i.Name+" "+i.Flags.String())
	}
	r.walk()
	r.CanExecute = execute(spec)
	return r
}

// walk notes what there is and where it can write.
func (r *report) walk() {
	filepath.WalkDir("/", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			r.Files = append(r.Files, path+" "+err.Error())
			return nil
		}
		r.Files = append(r.Files, path)
		if e.IsDir() {
			probe := filepath.Join(path, "probe")
			if os.WriteFile(probe, nil, 0o600) == nil {
				r.CanWrite = append(r.CanWrite, path)
				os.Remove(probe)
			}
		}
		return nil
	})
}

// execute tries to run a copy of the daemon from where it can write.
func execute(spec abi.Spec) string {
	if len(spec.Write) == 0 {
		return "nowhere to write"
	}
	path := filepath.Join(spec.Write[0], "copy")
	program, err := os.ReadFile(spec.Exec)
	if err == nil {
		err = os.WriteFile(path, program, 0o700)
	}
	if err != nil {
		return err.Error()
	}
	defer os.Remove(path)
	var errno unix.Errno
	if errors.As(unix.Exec(path, []string{path}, nil), &errno) {
		return unix.ErrnoName(errno)
	}
	return "no error"
}

func openDescriptors() []int {
	var all []int
	for fd := range 64 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			all = append(all, fd)
		}
	}
	return all
}
