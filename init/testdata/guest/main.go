// Command guest is the one daemon of a machine that is made to try domains on our
// own kernel: it asks PID 1 for their programs, looks at what they are, and tells
// the serial line.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dactyl-os/dactyl/daemons/abi"
	"github.com/dactyl-os/dactyl/ipc"
	"github.com/dactyl-os/dactyl/ipc/machine"
	"github.com/dactyl-os/dactyl/ipc/probe"
)

// guest is what the trials use.
type guest struct {
	line    *os.File
	machine machine.Client
	probe   probe.Client
}

func main() {
	line, err := os.OpenFile("/dev/ttyS0", os.O_WRONLY, 0)
	if err != nil {
		os.Exit(abi.ExitTemporary)
	}
	unix.Write(abi.NotifyFD, []byte("landlock=0\n"))
	go func() {
		for range time.Tick(abi.WatchdogInterval) {
			unix.Write(abi.NotifyFD, []byte("\n"))
		}
	}()
	g := &guest{
		line:    line,
		machine: machine.NewClient(ipc.NewPeer("machine", abi.SocketDir+"/tester/machine")),
		probe:   probe.NewClient(ipc.NewPeer("probe", abi.SocketDir+"/tester/probe")),
	}
	for _, t := range trials {
		if err := t.run(g); err != nil {
			fmt.Fprintf(line, "FAIL %s: %v\n", t.what, err)
		} else {
			fmt.Fprintf(line, "ok %s\n", t.what)
		}
	}
	fmt.Fprintln(line, "done")
	g.machine.Reboot(context.Background(), &machine.RebootRequest{})
	select {}
}

// trials are made in this order.
var trials = []struct {
	what string
	run  func(*guest) error
}{
	{"a domain's program waits for the domain", func(g *guest) error {
		if err := g.start("runtime"); status.Code(err) != codes.FailedPrecondition {
			return fmt.Errorf("started: %v", err)
		}
		return nil
	}},
	{"all programs start", func(g *guest) error {
		for _, name := range []string{"pods", "runtime", "agent", "server"} {
			if err := g.start(name); err != nil {
				return err
			}
		}
		return nil
	}},
	{"a program of others has its filter", says("server", "time", "invalid cross-device link")},
	{"controllers are on", says("runtime", "read /sys/fs/cgroup/cgroup.subtree_control", "cpuset cpu io memory hugetlb pids <nil>")},
	{"the domain's cgroup is the root", says("runtime", "read /proc/self/cgroup", "0::/runtime <nil>")},
	{"limits are set", says("runtime", "read /sys/fs/cgroup/agent/pids.max", "32 <nil>")},
	{"no limit is no limit", says("runtime", "read /sys/fs/cgroup/runtime/memory.max", "max <nil>")},
	{"memory is accounted", func(g *guest) error {
		if text, err := g.ask("runtime", "read /sys/fs/cgroup/memory.current"); err != nil || strings.HasPrefix(text, "0 ") {
			return fmt.Errorf("%s %v", text, err)
		}
		return nil
	}},
	{"pods can have cgroups", says("runtime", "group kubepods", "<nil>")},
	{"sysctls can be set", says("runtime", "write /proc/sys/net/ipv4/ip_forward 1", "<nil>")},
	{"sysfs cannot be written", says("runtime", "write /sys/class/net/lo/mtu 1500", "open /sys/class/net/lo/mtu: read-only file system")},
	{"the machine's cgroups are out of reach", says("runtime", "read /sys/fs/cgroup/dactyl/cgroup.procs", "open /sys/fs/cgroup/dactyl/cgroup.procs: no such file or directory")},
	{"the root disk cannot be opened", says("runtime", "node b 254 0", "make: operation not permitted")},
	{"memory cannot be opened", says("runtime", "node c 1 1", "make: operation not permitted")},
	{"the device mapper cannot be opened", says("runtime", "node c 10 236", "make: operation not permitted")},
	{"a USB device cannot be opened", says("runtime", "node c 189 0", "make: operation not permitted")},
	{"a console cannot be opened", says("runtime", "node c 7 1", "make: operation not permitted")},
	{"what has the node of a disk that is mounted cannot mount it", says("runtime", "disk /dev/vda squashfs", "open: operation not permitted; mount: operation not permitted")},
	{"the filter is out of reach", says("runtime", "filters /sys/fs/cgroup", "0 <nil>")},
	{"open files have no limit but memory", says("runtime", "read /proc/sys/fs/file-max", "9223372036854775807 <nil>")},
	{"epoll has no limit but memory", says("runtime", "read /proc/sys/fs/epoll/max_user_watches", "9223372036854775807 <nil>")},
	{"connections are tracked by the machine's memory", says("runtime", "read /proc/sys/net/netfilter/nf_conntrack_max", "131072 <nil>")},
	{"and for a day", says("runtime", "read /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", "86400 <nil>")},
	{"links answer for their own addresses", says("runtime", "read /proc/sys/net/ipv4/conf/all/arp_ignore", "1 <nil>")},
	{"addresses of other links are refused", says("runtime", "read /proc/sys/net/ipv4/conf/default/rp_filter", "1 <nil>")},
	{"the domain's threads have a limit that it cannot lift", func(g *guest) error {
		text, err := g.ask("runtime", "read /sys/fs/cgroup/pids.max")
		if err != nil || strings.HasPrefix(text, "max") {
			return fmt.Errorf("pids.max is %s %v", text, err)
		}
		if text, err = g.ask("runtime", "write /sys/fs/cgroup/pids.max max"); err != nil || !strings.Contains(text, "operation not permitted") {
			return fmt.Errorf("write it: %s %v", text, err)
		}
		return nil
	}},
	{"null can be opened", says("runtime", "node c 1 3", "<nil>")},
	{"the kernel's log can be opened", says("runtime", "open /dev/kmsg", "<nil>")},
	{"a terminal can be opened", says("runtime", "open /dev/ptmx", "<nil>")},
	{"overlays can be mounted", says("runtime", "overlay", "<nil>")},
	{"what was written can be executed", says("runtime", "copy /run/foreign", "<nil>")},
	{"the runtime can be killed alone", func(g *guest) error {
		before, err := g.pids()
		if err != nil {
			return err
		}
		if _, err := g.probe.Signal(context.Background(), &probe.SignalRequest{Daemon: "runtime", Signal: int32(unix.SIGKILL)}); err != nil {
			return err
		}
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			now, err := g.pids()
			if err == nil && now["runtime"] != 0 && now["runtime"] != before["runtime"] && now["pods"] == before["pods"] && now["agent"] == before["agent"] {
				return nil
			}
		}
		return fmt.Errorf("it is not back")
	}},
	{"what it left in another cgroup lives on", says("runtime", "populated kubepods", "populated 1")},
	{"the domain can be started anew", func(g *guest) error {
		_, err := g.machine.RestartDaemon(context.Background(), &machine.RestartDaemonRequest{Name: "pods"})
		return err
	}},
	{"with controllers", says("runtime", "read /sys/fs/cgroup/cgroup.subtree_control", "cpuset cpu io memory hugetlb pids <nil>")},
	{"and without what was there", says("runtime", "populated kubepods", "open /sys/fs/cgroup/kubepods/cgroup.events: no such file or directory")},
	// These kill the agent until PID 1 waits before it starts it again, and so come last.
	{"the next process of a program cannot be frozen on its way", func(g *guest) error {
		text, err := g.ask("runtime", "trap agent")
		if err == nil && strings.Contains(text, agentHas) {
			return fmt.Errorf("in a cgroup that was frozen beforehand: %s", text)
		}
		return err
	}},
	{"a process that is stopped on its way has what its program has", func(g *guest) error {
		for range 20 {
			text, err := g.ask("runtime", "catch agent")
			switch {
			case err != nil:
				return err
			case !strings.Contains(text, `"Comm":"init"`): // too late
				continue
			case !strings.Contains(text, `"CapEff":"`+agentRights+`"`), !strings.Contains(text, "authority.pem: no such file"),
				!strings.Contains(text, `"Namespaces":{}`), !strings.Contains(text, `"Shared":null`):
				return fmt.Errorf("%s", text)
			}
			return nil
		}
		return nil // the tests on another Linux stop it for certain
	}},
}

// agentRights are NET_ADMIN, DAC_OVERRIDE and CHOWN.
const agentRights = "0000000000001003"

// agentHas is in what trap says of a process that is not what the agent is.
const agentHas = `"CapEff":"000001f`

// says tries whether a program answers a command so.
func says(name, command, want string) func(*guest) error {
	return func(g *guest) error {
		got, err := g.ask(name, command)
		if err == nil && got != want {
			err = fmt.Errorf("%s, want %s", got, want)
		}
		return err
	}
}

func (g *guest) start(name string) error {
	_, err := g.machine.StartProgram(context.Background(), &machine.StartProgramRequest{Name: name})
	return err
}

// meetings are directories in /run by who listens there.
var meetings = map[string]string{"server": "server", "runtime": "foreign", "agent": "foreign"}

// ask sends a command to a program as soon as it listens.
func (g *guest) ask(name, command string) (string, error) {
	var text string
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		var c net.Conn
		if c, err = net.Dial("unix", "/run/"+meetings[name]+"/"+name); err != nil {
			continue
		}
		fmt.Fprintln(c, command)
		text, err = bufio.NewReader(c).ReadString('\n')
		c.Close()
		if err == nil {
			break
		}
	}
	return strings.TrimSpace(text), err
}

func (g *guest) pids() (map[string]int32, error) {
	all, err := g.machine.ListDaemons(context.Background(), &machine.ListDaemonsRequest{})
	if err != nil {
		return nil, err
	}
	pids := map[string]int32{}
	for _, d := range all.Daemons {
		pids[d.Name] = d.Pid
	}
	return pids, nil
}
