package native

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// stageName is what a process is called that is to become PID 1.
const stageName = "dactyl-native-stage"

// Stage returns at once, unless this process was started by Start: then it makes
// the world around it and becomes init. A program that uses Start calls it first
// thing in main, a test in TestMain.
func Stage() {
	if os.Args[0] != stageName || len(os.Args) != 2 {
		return
	}
	runtime.LockOSThread() // the cgroup namespace is a thread's own
	err := become(os.Args[1])
	fmt.Fprintln(os.Stderr, "native:", err)
	os.Exit(1)
}

// become follows the steps from a process in new namespaces to PID 1 of root.
func become(root string) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("this process has pid %d: only Start may start it", os.Getpid())
	}
	for _, step := range []func(string) error{leaveCgroup, copyRoot, withholdRights, makeDevices, enter, upLoopback} {
		if err := step(root); err != nil {
			return err
		}
	}
	err := unix.Exec("/init", []string{"/init"}, []string{"DACTYL_NATIVE=1"})
	return fmt.Errorf("exec /init: %w", err)
}

// leaveCgroup makes the cgroup that Start has put this process into the root of
// all that it will see, and goes from it to the leaf that Start has opened for it.
func leaveCgroup(string) error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("new cgroup namespace: %w", err)
	}
	first := os.NewFile(3, firstGroup)
	defer first.Close()
	if _, err := first.WriteString("0"); err != nil {
		return fmt.Errorf("leave the root of the cgroups: %w", err)
	}
	return nil
}

// copyRoot puts a copy of root, in memory, over root. From here on nothing that
// is mounted shows outside.
func copyRoot(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("take the mounts below / private: %w", err)
	}
	original, err := os.Open(root)
	if err != nil {
		return err
	}
	defer original.Close()
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", root, err)
	}
	cp := exec.Command("cp", "-a", "--sparse=always", "/proc/self/fd/3/.", root)
	cp.ExtraFiles = []*os.File{original}
	if out, err := cp.CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", root, err, out)
	}
	return nil
}

// withholdRights takes capabilities and limits out of the manifests that cannot be
// granted here, because the host's root does not have them, or must not be, because
// they reach through namespaces.
func withholdRights(root string) error {
	path := filepath.Join(root, abi.SystemPath)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var system abi.System
	if err := json.Unmarshal(text, &system); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	for i := range system.Daemons {
		d := &system.Daemons[i]
		if lacking("SYS_RESOURCE") {
			d.Limits.Files = min(d.Limits.Files, int64(files.Max))
		}
		d.Capabilities = slices.DeleteFunc(d.Capabilities, func(name string) bool { return name == "SYS_TIME" || lacking(name) })
	}
	if text, err = json.Marshal(system); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// lacking says that this process could not give a daemon the capability.
func lacking(name string) bool {
	number, asked := numbers[name]
	if !asked {
		return false
	}
	has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, number, 0, 0, 0)
	return err != nil || has == 0
}

// numbers are of capabilities that root on a build machine may lack.
var numbers = map[string]uintptr{
	"NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW, "SYSLOG": unix.CAP_SYSLOG,
	"SYS_RESOURCE": unix.CAP_SYS_RESOURCE,
}

// devices are all that there is in /dev, by major and minor number.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	{"kmsg", 1, 3}, // not the host's: see doc.go
}

func makeDevices(root string) error {
	unix.Umask(0)
	defer unix.Umask(0o022)
	for _, d := range devices {
		path := filepath.Join(root, "dev", d.name)
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	return nil
}

// enter makes the copy the only thing there is, and read-only.
func enter(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root %s: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID, ""); err != nil {
		return fmt.Errorf("make / read-only: %w", err)
	}
	return unix.Chdir("/")
}

func upLoopback(string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
