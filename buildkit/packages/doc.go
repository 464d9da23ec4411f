// Package packages builds what the image has from modules that others wrote:
// Kubernetes, containerd, runc, the CNI plugins, CoreDNS and the pause image.
//
//	table.go          every program: what is built, with which flags, where it goes
//	kubernetes/       go.mod; one program for the components, containerd and CoreDNS, and the shim's versions;
//	                  collector/: they collect little garbage while they start
//	runc/             go.mod alone: nothing is ours
//	cni/              go.mod and a main that picks plugins
//	mount/            mount and umount, ours
//	pause/            the first process of every pod, 600 bytes
//	changes.go        edits of third-party modules, with the upstream issue that each fixes
//	debian.go         nft with its libraries, and the CA certificates, as Debian built them
//
// A version is changed in a go.mod, and nowhere else. k8s.io/kubernetes needs all its
// staging modules replaced; containerd goes with the kubelet's cri-api; the tests say
// when they do not fit.
//
// A fault that no release has fixed is fixed in changes.go, by exact edits of a vendored
// copy of the module. docs/upstream.md lists the edits. An edit that does not fit the
// source of another version stops the build, and the tests report a fault that a new
// version has fixed.
//
// # Size
//
// Kubernetes' components share most of their code, so they are one program that is
// told by its name what to be. The shim, runc and the CNI plugins stay apart from it:
// they start with every pod, and a program pays for the initialisation of everything
// that is linked into it each time it starts.
//
// "kubelet --version" takes 76 ms of processor time and 92 MB, nearly all of them pages
// that the components share; a shim, a CNI plugin and runc take 4 ms and 13 MB.
//
// The four CNI plugins as programs of their own would be 4.9 MB in the image, not 1.5.
// CoreDNS would be 10.2 MB, not the 1.4 MB that it adds to kubernetes: five sixths of
// its code is there already. For that, both must agree on every module. CoreDNS 1.14.7
// does with Kubernetes 1.36; 1.15 wants client-go 0.37 and etcd's client 3.7.
//
// nft is Debian's, with the eleven libraries that it wants, half of it the C library.
// Without libedit, which only its prompt needs, it would be .2 MB less.
//
// The linker drops what nothing reaches, unless something calls a method whose name
// is known only at run time. Templates do, so text/template is built with that call
// taken out (edit.go), and every program is checked after it was linked (deadcode.go).
//
//	                             bytes   in the image (zstd 19, blocks of 256 KiB)
//	kubernetes               127,983,742   33,611,776
//	containerd-shim-runc-v2   10,399,870    3,559,424
//	runc                       7,746,832    2,846,720
//	nft and its libraries      4,493,816    1,789,952
//	cni                        4,194,430    1,552,384
//	mount                      1,441,918      585,728
//	pause, pause.tar               6,384        8,192
//	all                      156,266,992   43,954,176
//
// From nothing, compiling takes about 20 minutes of one processor, 17 of them for
// Kubernetes; after a change in its folder, linking takes half a minute.
//
// # Cache
//
// A finished program lies in <cache>/<name>-<key>/. The key is a hash of everything
// that goes in; old keys may be deleted at any time. A directory appears complete or
// not at all, and a lock keeps two builds from running at once. Equal keys mean equal
// bytes: no paths, times or build IDs are in a program.
//
// # What they need at run time
//
// As their sources say it, for whoever writes a daemon.toml or a configuration. Names
// without a slash are looked up on PATH.
//
// kube-apiserver, kube-controller-manager, kube-scheduler. No privilege and no
// program. Files: what their flags name, and a directory for --cert-dir
// (/var/run/kubernetes) if no serving certificate is given; give one. They follow
// certificates, CA bundles and kubeconfigs that are replaced by rename. The
// controller-manager looks into /usr/libexec/kubernetes/kubelet-plugins/volume/exec/
// for volume drivers and may find nothing. /etc/localtime is not needed: the time
// zones are linked in. Their health: /livez, /readyz, /healthz.
//
// They start only when the API server is ready: a controller-manager or scheduler that
// asks before it has made its roles exits with 1 ("configmaps
// extension-apiserver-authentication is forbidden").
//
// kubelet. uid 0: it refuses others. It mounts (SYS_ADMIN), changes owners of volumes
// (CHOWN, FOWNER, DAC_OVERRIDE) and lowers OOM scores (SYS_RESOURCE).
//   - Programs: mount and umount (ours: mount/) for every tmpfs volume (Secrets, tokens,
//     emptyDir in memory), and with --no-canonicalize for every subPath, of which the
//     source is /proc/PID/fd/N: /proc must be the domain's. It wants to
//     hear "not mounted" of a directory that is no mount point: it tries that in
//     TMPDIR when it starts and trusts umount from then on. Also, where a volume asks for it: blkid, fsck, mkfs.*, resize2fs, xfs_growfs,
//     blockdev, losetup. systemd-run, if it is there, is used for mounts. getsubids
//     only if there is a user called kubelet.
//   - Directories: --root-dir (/var/lib/kubelet), which it makes a shared mount with a
//     bind mount of its own; podLogsDir (/var/log/pods); /var/log/containers; TMPDIR.
//   - Reads /proc of its domain (/proc/1/ns/pid, /proc/swaps, /proc/self/mountinfo),
//     /sys/fs/cgroup (version 2; version 1 only with failCgroupV1: false), /sys/block,
//     /sys/devices/system, /etc/resolv.conf, /etc/hosts, /etc/os-release, and
//     /dev/kmsg, without which it does not start.
//   - Writes cgroups under cgroupRoot (kubepods is made below it), oom_score_adj, and
//     six sysctls unless they have their values: vm.overcommit_memory=1,
//     vm.panic_on_oom=0, kernel.panic=10, kernel.panic_on_oops=1,
//     kernel.keys.root_maxkeys=1000000, kernel.keys.root_maxbytes=25000000. With
//     protectKernelDefaults it refuses to start instead of writing.
//   - Graceful node shutdown is systemd-logind's over D-Bus; without it the setting
//     does nothing, and whoever stops the machine has to end the pods.
//
// kube-proxy in nftables mode. NET_ADMIN in the machine's network namespace, and the
// program nft of at least 1.0.1 (1.0.6 is there): "nft --version", "nft -f -", "nft --check -f -",
// "nft --json --terse list table ip|ip6 kube-proxy", "nft --json list chain|sets|maps|
// map|set|counters …". What nft lists must read as kube-proxy has written it, so there
// must be an /etc/protocols. That the table is not there when it starts it says as an error,
// and makes it. Kernel 5.13 or later. It deletes conntrack entries by netlink,
// and writes net.netfilter.nf_conntrack_* and
// /sys/module/nf_conntrack/parameters/hashsize unless the conntrack settings are all 0.
//
// containerd. uid 0. It mounts overlays and network namespaces (SYS_ADMIN), sets the
// loopback device up (NET_ADMIN), unpacks layers with their owners, devices and file
// capabilities (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP), and gives pods an
// OOM score of -998, which takes SYS_RESOURCE unless restrict_oom_score_adj is set:
// without either, no pod starts. A runtime class's capabilities must be in its bounding
// set, and so must everything a privileged pod is to have.
//   - Programs: containerd-shim-runc-v2, from PATH or from beside itself; the CNI
//     plugins from bin_dirs (/opt/cni/bin); unpigz and igzip if they are there; and
//     itself by /proc/self/exe, stopped before its first instruction, to hold a user
//     namespace for pods with hostUsers: false. So that the name does not count, it is
//     fine that the link's target is called kubernetes.
//   - Directories: root (/var/lib/containerd), state (/run/containerd; sockets of the
//     shims in /run/containerd/s whatever state says), /var/run/netns unless
//     netns_mounts_under_state_dir. FIFOs of the containers' output are in state.
//   - The pause image is imported from pause.tar ("ctr -n k8s.io images import", or the
//     transfer service) under the name PauseImage, and named in pinned_images.sandbox.
//   - Reads conf_dir (/etc/cni/net.d), /etc/containerd/config.toml (--config),
//     /etc/hosts (a pod fails to start without it; empty will do), /etc/resolv.conf,
//     /sys/fs/cgroup, /proc.
//   - PATH and the rest of its environment go on to the shims, runc and the plugins.
//   - use_internal_loopback = true saves one process for each pod: the plugin
//     loopback is then not run.
//
// containerd-shim-runc-v2. Started by containerd in the pod's bundle directory, twice
// for each pod ("start", then itself by its path, which is why it is not a link), and
// at the end ("delete"). It makes itself a child subreaper and its OOM score, and runs
// runc from PATH (or BinaryName). Its cgroup is containerd's unless ShimCgroup is set:
// pods survive a containerd that is stopped only if its cgroup is not killed with it.
//
// runc. Keeps /run/containerd/runc. Runs itself through an overlay mount of its own
// directory, so that containers cannot write to it; where that fails, it copies itself
// into memory, 8 MB for every container that starts. Needs the cgroup tree writable,
// /proc, and the capabilities that it is to give. newuidmap, newgidmap: only without
// root. No checkpoints: criu is not there and is not linked.
//
// CNI plugins. NET_ADMIN and SYS_ADMIN (to enter network namespaces), from containerd.
//   - bridge: writes net.ipv4.ip_forward and net.ipv6.conf.*; with ipMasq it needs nft
//     ("ipMasqBackend": "nftables") or iptables. host-local: /var/lib/cni/networks
//     (dataDir). portmap: "backend": "nftables" and nft; writes
//     net.ipv4.conf.*.route_localnet if asked to (snat).
//   - Taking a pod down tries both backends and ignores the one that is not there.
//
// coredns. Binds its port (NET_BIND_SERVICE for 53), and reads the Corefile (-conf), what
// "kubeconfig" in it names, and /etc/resolv.conf if "forward" names that. It reads them
// once: a changed Corefile takes a restart, or SIGUSR1. The plugins that there are stand
// in kubernetes/coredns.go. Its health: "health" and "ready".
//
// pause. Nothing: it waits for signals.
package packages
