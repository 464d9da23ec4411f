package main

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dactyl-os/dactyl/daemons/abi"
)

// A domain is a set of namespaces for programs that work together and start
// others: mounts, processes, IPC and cgroups of its own, the machine's network and
// name. Its first process holds them, the others enter them. Within a domain only
// capabilities tell its programs apart; the walls are around all of it, and the
// device filter (devices_linux.go) is one of them.

const (
	// domainRootOptions hold places for mounts and a few small files.
	domainRootOptions = "mode=0755,size=64k,nr_inodes=256"
	domainDevOptions  = "mode=0755,size=64k,nr_inodes=256"
	domainShmOptions  = "mode=1777,size=64m"
	// domainWriteMode lets users of pods, and those outside who may read there,
	// pass on the way to what is theirs.
	domainWriteMode = 0o711
	// domainFrom gives the domain the files in /etc that depend on the configuration.
	domainFrom = "kubed"
)

// domainDevices are what containers expect of the /dev around them.
var domainDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

// domainDirs are made in a domain's root, with their modes.
var domainDirs = []struct {
	at   string
	mode uint32
}{
	{"proc", 0o555}, {"sys", 0o555}, {"etc", 0o755}, {"var", 0o755},
}

// domainMemory is where programs and pods with a hostPath may write without owning a
// directory on the disk. The rest of a domain's root is read-only, so that a hostPath
// which no manifest provides fails at once, instead of filling memory and being gone after
// the next boot. What pods write is counted as their memory.
var domainMemory = []struct{ at, options string }{
	{"run", "mode=0755,size=32m,nr_inodes=16k"},           // sockets of agents and storage drivers, network namespaces
	{"tmp", "mode=1777,size=64m,nr_inodes=16k"},           // what programs expect to write
	{"etc/cni/net.d", "mode=0755,size=1m,nr_inodes=256"},  // installers of CNI plugins write it
	{"opt/cni/bin", "mode=0755,size=128m,nr_inodes=1024"}, // and this
}

// domainHosts is /etc/hosts: pods get their own.
const domainHosts = "127.0.0.1 localhost\n::1 localhost\n"

// domainMounts are mounted by the first process, since they show its namespaces.
var domainMounts = []struct {
	kind, at string
	flags    uintptr
}{
	{"proc", "/proc", nosuid | nodev | noexec},
	{"sysfs", "/sys", nosuid | nodev | noexec | ro},
	{"cgroup2", "/sys/fs/cgroup", nosuid | nodev | noexec},
	{"mqueue", "/dev/mqueue", nosuid | nodev | noexec},
}

func leads(d abi.Daemon) bool    { return d.Domain != "" && d.Domain == d.Name }
func inhabits(d abi.Daemon) bool { return d.Domain != "" && d.Domain != d.Name }

// buildDomainRoot makes what all programs of the domain d will see, but for
// domainMounts.
func buildDomainRoot(d abi.Daemon, binary string) (*daemonRoot, error) {
	fd, err := newTmpfs(domainRootOptions, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, err
	}
	r := &daemonRoot{fd: fd, made: map[string]bool{".": true}}
	if err := r.fillDomain(d, binary); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *daemonRoot) fillDomain(d abi.Daemon, binary string) error {
	for _, dir := range domainDirs {
		if err := r.makeDirs(dir.at); err != nil {
			return err
		}
		if err := unix.Fchmodat(r.fd, dir.at, dir.mode, 0); err != nil {
			return fmt.Errorf("chmod /%s: %w", dir.at, err)
		}
	}
	for _, m := range domainMemory {
		if err := r.addMemory(m.at, m.options); err != nil {
			return err
		}
	}
	if err := r.bindProgram(d, binary); err != nil {
		return err
	}
	for _, path := range d.Read {
		if err := r.bind(path, path, closed, unix.MS_PRIVATE); err != nil {
			return err
		}
	}
	if err := r.bindShares(d); err != nil {
		return err
	}
	for _, dir := range d.Write {
		if err := makeOwned(dir, int(d.User), domainWriteMode); err != nil {
			return err
		}
		if err := r.bindFree(dir); err != nil {
			return err
		}
	}
	if err := r.fillEtc(d); err != nil {
		return err
	}
	if err := r.addDomainDev(d); err != nil {
		return err
	}
	return setMount(r.fd, unix.MOUNT_ATTR_RDONLY, 0)
}

// bindFree binds a directory without the options that keep the machine from
// executing what is there: containers live in it.
func (r *daemonRoot) bindFree(dir string) error {
	if err := r.bind(dir, dir, 0, unix.MS_PRIVATE); err != nil {
		return err
	}
	free := &unix.MountAttr{Attr_clr: closed}
	if err := unix.MountSetattr(r.mounts[len(r.mounts)-1].fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, free); err != nil {
		return fmt.Errorf("free the mount of %s: %w", dir, err)
	}
	return nil
}

// fillEtc makes the files that any program looks for.
func (r *daemonRoot) fillEtc(d abi.Daemon) error {
	from := shareDir(domainFrom, d.Name)
	for _, link := range []struct{ at, to string }{
		{"etc/machine-id", filepath.Join(from, "machine-id")},
		{"etc/resolv.conf", filepath.Join(from, "resolv.conf")},
		{"etc/mtab", "/proc/self/mounts"},
		{"var/run", "/run"},
	} {
		if err := unix.Symlinkat(link.to, r.fd, link.at); err != nil {
			return fmt.Errorf("link /%s: %w", link.at, err)
		}
	}
	fd, err := unix.Openat(r.fd, "etc/hosts", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("make /etc/hosts: %w", err)
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(domainHosts))
	return err
}

// addDomainDev makes a /dev whose nodes have the modes that they have on the
// machine: containers in user namespaces use them in place of nodes of their own.
func (r *daemonRoot) addDomainDev(d abi.Daemon) error {
	if err := r.makeDirs("dev"); err != nil {
		return err
	}
	fd, err := newTmpfs(domainDevOptions, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	r.mounts = append(r.mounts, attach{fd, "dev"})
	if err := giveNodes(fd, domainDevices, d, keepModes); err != nil {
		return err
	}
	for _, link := range []struct{ at, to string }{
		{"fd", "/proc/self/fd"}, {"stdin", "fd/0"}, {"stdout", "fd/1"}, {"stderr", "fd/2"}, {"ptmx", "pts/ptmx"},
	} {
		if err := unix.Symlinkat(link.to, fd, link.at); err != nil {
			return fmt.Errorf("link /dev/%s: %w", link.at, err)
		}
	}
	for _, dir := range []string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(fd, dir, 0o755); err != nil {
			return fmt.Errorf("make /dev/%s: %w", dir, err)
		}
	}
	if err := setMount(fd, unix.MOUNT_ATTR_RDONLY, 0); err != nil {
		return err
	}
	return r.addDevMounts()
}

func (r *daemonRoot) addDevMounts() error {
	pts, err := newMount("devpts", "mode=0620,ptmxmode=0666", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	r.mounts = append(r.mounts, attach{pts, "dev/pts"})
	shm, err := newTmpfs(domainShmOptions, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	r.mounts = append(r.mounts, attach{shm, "dev/shm"})
	return nil
}
