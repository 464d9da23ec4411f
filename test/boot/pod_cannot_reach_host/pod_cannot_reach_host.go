// Scenario pod_cannot_reach_host: a pod that has everything Kubernetes can give (it is
// privileged, in all of the node's namespaces, with the node's / mounted) looks for the
// machine. It finds the pods' domain: found.txt is all of that, and none of it is a
// daemon's process, socket or key, STATE, or a disk. Nor does it get there by nodes and
// mounts of its own. If it fails, whoever takes over one pod can have the machine.
package pod_cannot_reach_host

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dactyl-os/dactyl/ipc/probe"
	"github.com/dactyl-os/dactyl/test/vm"
)

// found is what such a pod finds. Paths are those of the domain; * is a name that is made
// up anew each time.
//
//go:embed found.txt
var found string

// pod has the places on which it mounts things from volumes, so that they go with it.
const pod = `
apiVersion: v1
kind: Pod
metadata: {name: intruder, namespace: kube-system}
spec:
  hostPID: true
  hostIPC: true
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: workload
    image: ` + vm.TestImageName + `
    command: [/bin/workload, sleep, 1h]
    securityContext: {privileged: true, runAsUser: 0}
    volumeMounts:
    - {name: host, mountPath: /host}
    - {name: place, mountPath: /place/dev, subPath: dev}
    - {name: place, mountPath: /place/proc, subPath: proc}
    - {name: place, mountPath: /place/sys, subPath: sys}
    - {name: place, mountPath: /place/cgroup, subPath: cgroup}
    - {name: place, mountPath: /place/disk, subPath: disk}
    - {name: place, mountPath: /place/efi, subPath: efi}
  volumes:
  - {name: host, hostPath: {path: /}}
  - {name: place, emptyDir: {}}
`

// Scenario needs a machine whose node becomes Ready.
func Scenario(t *testing.T, r *vm.Running) {
	r.WaitReady()
	r.NeedTestImage()
	c := r.Cluster()
	c.Namespace = "kube-system"
	vm.Eventually(t, func() string { // a new cluster makes the namespace's account just after the node is Ready
		if _, err := c.Try(pod, "apply", "-f", "-"); err != nil {
			return err.Error()
		}
		return ""
	})
	defer c.Run("delete", "pod", "intruder", "--wait=false")
	c.Run("wait", "--for=condition=Ready", "pod/intruder", "--timeout=4m")

	looksAround(t, c)
	machineHasIt(t, r)
	tries(t, c)
	freezes(t, r, c)
}

// proxyRights is CAP_NET_ADMIN, all that kube-proxy may have.
const proxyRights = "0000000000001000"

// freezes keeps kube-proxy's next process from its first instruction. It must not have more
// than kube-proxy has, and kube-proxy must come back.
func freezes(t *testing.T, r *vm.Running, c *vm.Cluster) {
	t.Helper()
	out := c.Run("exec", "intruder", "--", "workload", "freeze", "/host/sys/fs/cgroup/kube-proxy", "/state/trustd/authority.pem")
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) < 3 || f[1] != proxyRights || !strings.Contains(line, notThere) {
			t.Errorf("a process that PID 1 starts in a frozen cgroup: %s", line)
		}
	}
	r.WaitHealthy("kube-proxy")
}

// looksAround compares all that there is with found.txt.
func looksAround(t *testing.T, c *vm.Cluster) {
	t.Helper()
	// Not what is the kernel's, nor what layers and containers have inside.
	files := c.Run("exec", "intruder", "--", "workload", "ls", "/host", "/host/proc", "/host/sys",
		"/host/var/lib/containerd", "/host/run/containerd/io.containerd.runtime.v2.task")
	is := slices.Concat(
		processes(c.Run("exec", "intruder", "--", "workload", "ps")),
		mounts(c.Run("exec", "intruder", "--", "workload", "cat", "/proc/1/mountinfo")),
		special(files))
	slices.Sort(is)
	is = slices.Compact(is)
	want := strings.Split(strings.TrimSpace(found), "\n")
	for _, line := range is {
		if !slices.Contains(want, line) {
			t.Errorf("a privileged pod finds: %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(is, line) {
			t.Errorf("a privileged pod does not find: %s", line)
		}
	}
	if t.Failed() {
		t.Logf("it found:\n%s", strings.Join(is, "\n"))
	}
}

// passing are processes that are there for a moment: runc starts and ends containers.
var passing = regexp.MustCompile(`^(runc.*|exe|nft|mount|umount|bridge|host-local|portmap|loopback|[0-9]+)$`)

func processes(ps string) []string {
	var out []string
	for line := range strings.Lines(ps) {
		if name := strings.Fields(line)[2]; !passing.MatchString(name) {
			out = append(out, "process "+name)
		}
	}
	return out
}

// mounts are those of the domain, without what is mounted for single pods.
func mounts(mountinfo string) []string {
	var out []string
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		at, access := f[4], f[5][:2]
		if madeForPods.MatchString(at) {
			continue
		}
		out = append(out, fmt.Sprintf("mount %s %s %s", access, strings.Fields(after)[0], at))
	}
	return out
}

var madeForPods = regexp.MustCompile(`^(/run/containerd|/run/netns|/var/run/netns|/var/lib/containerd|/var/lib/kubelet)/.`)

// madeUp are parts of paths that are other ones each time.
var madeUp = regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]{5,}`)

// special are the files that open something: sockets, devices, pipes, keys; and the first
// level of directories.
func special(files string) []string {
	var out []string
	for line := range strings.Lines(files) {
		kind, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		path = madeUp.ReplaceAllString(strings.TrimPrefix(path, "/host"), "*")
		switch {
		case kind == "?" && strings.HasSuffix(path, notThere): // it has just gone
		case kind == "?":
			out = append(out, "unreadable "+path)
		case strings.HasPrefix(kind, "S"):
			out = append(out, "socket "+path)
		case strings.HasPrefix(kind, "D"):
			out = append(out, "device "+path)
		case strings.HasPrefix(kind, "p"):
			out = append(out, "pipe "+path)
		case regexp.MustCompile(`\.(key|pem|p12|db)$`).MatchString(path):
			out = append(out, "key "+path)
		case strings.Count(path, "/") == 1:
			out = append(out, "path "+path)
		}
	}
	return out
}

// absent are paths of the machine, for a pod that has the node's / as /host.
var absent = []string{
	"/state", "/state/trustd", "/boot", "/init", "/lib/dactyl", "/etc/dactyl", "/run/ipc",
	"/var/lib/dactyl", "/var/lib/dactyl/etcdd", "/run/from/kube-apiserver", "/run/from/trustd/etcdd", "/run/from/trustd/kube-apiserver",
}

// machineHasIt makes sure that what the pod must not find is there at all.
func machineHasIt(t *testing.T, r *vm.Running) {
	t.Helper()
	for _, path := range []string{"/state/trustd/authority.pem", "/etc/dactyl/system.json", "/run/from/trustd/etcdd/server.key", "/proc/1/environ"} {
		if _, err := probe.NewClient(r.Admin).ReadFile(vm.Context(t), &probe.ReadFileRequest{Path: path}); err != nil {
			t.Errorf("%s is not on the machine, so that nothing was tried: %v", path, err)
		}
	}
}

const (
	notThere   = "no such file or directory"
	notAllowed = "operation not permitted"
	notKnown   = "no such device"
	done       = "done"
)

// attempt is a command of the workload and what has to come of it.
type attempt struct{ command, want string }

// firstRoot is the root of the domain's first process, in a /proc that the pod has mounted.
const firstRoot = "/place/proc/1/root"

// attempts are the same on every machine; those at its disks come on top.
var attempts = []attempt{
	// What the kernel would run for it, or do to the machine.
	{"test -e /proc/sys/kernel/core_pattern", notThere},
	{"test -e /proc/sys/kernel/modprobe", notThere},
	{"test -e /proc/sysrq-trigger", notThere},
	{"test -e /proc/kcore", notThere},
	{"test -e /dev/mem", notThere},
	{"mknod /tmp/mem c 1 1", notAllowed},
	{"mknod /tmp/kmem c 1 2", notAllowed},
	{"mknod /tmp/port c 1 4", notAllowed},
	// Through a USB device's node the boot stick would be taken from its driver; consoles show
	// the pairing code.
	{"mknod /tmp/usb c 189 0", notAllowed},
	{"mknod /tmp/stick c 189 129", notAllowed},
	{"mknod /host/tmp/usb c 189 1", notAllowed},
	{"mknod /tmp/console c 5 1", notAllowed},
	{"mknod /tmp/tty1 c 4 1", notAllowed},
	{"mknod /tmp/serial c 4 64", notAllowed},
	{"mknod /tmp/screen c 7 1", notAllowed},
	{"mknod /tmp/input c 13 64", notAllowed},
	{"mknod /tmp/gpu c 226 0", notAllowed},
	{"mknod /tmp/sg c 21 0", notAllowed},
	{"mknod /tmp/rtc c 10 135", notAllowed},
	{"mknod /tmp/watchdog c 10 130", notAllowed},
	{"mknod /tmp/mapper c 10 236", notAllowed},
	// It may mount what there is, and sees no more.
	{"mount proc proc /place/proc", done},
	{"test -e " + firstRoot + "/state", notThere},
	{"test -e " + firstRoot + "/run/ipc", notThere},
	{"mount cgroup2 cgroup2 /place/cgroup", done},
	{"test -e /place/cgroup/kubepods", done},
	{"test -e /place/cgroup/dactyl", notThere},
	{"test -e /place/cgroup/etcdd", notThere},
	{"mount sysfs sysfs /place/sys", done},
	// It does not get from its mount namespace to the next, and so to PID 1's.
	{"nextns /proc/1/ns/mnt", notAllowed},
	// There is no place where it finds a node of a disk.
	{"mount devtmpfs devtmpfs /place/dev", notKnown},
	{"mount efivarfs efivarfs /place/efi", notKnown},
}

// tries makes all attempts, and those at every disk and partition that the kernel names.
func tries(t *testing.T, c *vm.Cluster) {
	all := slices.Clone(attempts)
	for _, path := range absent {
		all = append(all, attempt{"test -e /host" + path, notThere}, attempt{"test -e /proc/1/root" + path, notThere})
	}
	disks := partitions(c.Run("exec", "intruder", "--", "workload", "cat", "/proc/partitions"))
	if len(disks) < 6 {
		t.Errorf("the kernel names %v: want the stick, its partitions and the root", disks)
	}
	for _, d := range disks {
		all = append(all,
			attempt{fmt.Sprintf("mknod /tmp/%s b %s %s", d.name, d.major, d.minor), notAllowed},
			attempt{fmt.Sprintf("mknod /host/tmp/%s b %s %s", d.name, d.major, d.minor), notAllowed},
			attempt{"test -e /host/dev/" + d.name, notThere},
			attempt{"test -e " + firstRoot + "/dev/" + d.name, notThere},
			attempt{"mount ext4 /host/dev/" + d.name + " /place/disk", notThere},
			attempt{"mount ext4 " + d.major + ":" + d.minor + " /place/disk", notThere},
		)
	}
	var commands strings.Builder
	for _, a := range all {
		fmt.Fprintln(&commands, a.command)
	}
	out, err := c.Try(commands.String(), "exec", "-i", "intruder", "--", "workload", "each")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	results := strings.Split(strings.TrimSpace(out), "\n")
	if len(results) != len(all) {
		t.Fatalf("%d results of %d attempts:\n%s", len(results), len(all), out)
	}
	for i, a := range all {
		if !strings.HasPrefix(results[i], a.command+" -> ") || !strings.HasSuffix(results[i], a.want) {
			t.Errorf("%s: want %s", results[i], a.want)
		}
	}
}

type disk struct{ name, major, minor string }

func partitions(text string) []disk {
	var out []disk
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 4 && f[0] != "major" {
			out = append(out, disk{f[3], f[0], f[1]})
		}
	}
	return out
}
