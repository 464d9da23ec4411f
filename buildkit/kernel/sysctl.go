package kernel

import "strings"

// Sysctl is one setting under /proc/sys.
type Sysctl struct {
	Key    string // with dots, as sysctl(8) prints it
	Value  string
	Reason string
}

// RenderSysctls is the file that PID 1 reads: one key=value per line, in order.
func RenderSysctls() string {
	var b strings.Builder
	for _, s := range Sysctls {
		b.WriteString(s.Key + "=" + s.Value + "\n")
	}
	return b.String()
}

// Sysctls are applied by PID 1 before the first daemon. Every key exists in this
// kernel (boot_test.go writes them all), so one that cannot be written is an error.
// No key contains a dot other than as a separator.
var Sysctls = []Sysctl{
	// What a program may learn about the kernel and do to it.
	{"kernel.kptr_restrict", "2", "kernel addresses are shown to nobody"},
	{"kernel.dmesg_restrict", "1", "the kernel's log is read with CAP_SYSLOG only, that is by logd"},
	{"kernel.printk_ratelimit_burst", "200", "an intruder's first refused system calls are logged all, not the first ten of them"},
	{"kernel.perf_event_paranoid", "3", "performance counters are a side channel"},
	{"kernel.unprivileged_bpf_disabled", "1", "BPF is for root, and this cannot be undone"},
	{"net.core.bpf_jit_harden", "2", "constants in compiled BPF are blinded, for root too"},
	{"dev.tty.ldisc_autoload", "0", "line disciplines are not chosen by programs"},
	{"dev.tty.legacy_tiocsti", "0", "nobody types into another's terminal"},
	{"kernel.oops_limit", "100", "an exploit may not try for ever; panic_on_oops below is stricter still"},
	{"kernel.warn_limit", "100", "as oops_limit, for warnings"},

	// Programs against one another.
	{"kernel.yama.ptrace_scope", "2", "only CAP_SYS_PTRACE traces; 3, nobody, would break pods with hostUsers: false, whose first process containerd starts traced"},
	{"kernel.randomize_va_space", "2", "stack, mappings and heap at random places"},
	{"vm.mmap_rnd_bits", "32", "as many random bits as the processor allows"},
	{"vm.mmap_min_addr", "65536", "a kernel null pointer never leads into a program"},
	{"fs.protected_symlinks", "1", "links in /tmp are not followed for others"},
	{"fs.protected_hardlinks", "1", "no links to files that one cannot write"},
	{"fs.protected_fifos", "2", "no writing to others' FIFOs in shared directories"},
	{"fs.protected_regular", "2", "as fifos, for files"},
	{"fs.suid_dumpable", "0", "nothing of a privileged process is dumped"},

	// The network, as CIS asks of a host that forwards. Nothing here keeps a host on the same
	// link from sending to pods and services by a route to this node: that takes a firewall.
	// Forwarding, which a Kubernetes node is for, comes
	// first: writing it sets accept_redirects and more anew. networkd turns router
	// advertisements on for the links whose configuration says so.
	{"net.ipv4.ip_forward", "1", "packets of pods are forwarded"},
	{"net.ipv6.conf.all.forwarding", "1", "as ip_forward"},
	{"net.ipv4.icmp_ignore_bogus_error_responses", "1", "routers that answer broadcasts do not fill the log"},
	{"net.ipv4.icmp_echo_ignore_broadcasts", "1", "no amplifier for others' pings"},
	{"net.ipv4.conf.all.accept_redirects", "0", "routes come from networkd alone"},
	{"net.ipv4.conf.default.accept_redirects", "0", "the same for links to come"},
	{"net.ipv6.conf.all.accept_redirects", "0", "the same for IPv6"},
	{"net.ipv6.conf.default.accept_redirects", "0", "the same for IPv6 links to come"},
	{"net.ipv4.conf.all.accept_source_route", "0", "senders do not choose routes"},
	{"net.ipv4.conf.default.accept_source_route", "0", "the same for links to come"},
	{"net.ipv6.conf.all.accept_source_route", "0", "the same for IPv6"},
	{"net.ipv6.conf.default.accept_source_route", "0", "the same for IPv6 links to come"},
	{"net.ipv4.conf.all.secure_redirects", "0", "not from the gateway, either"},
	{"net.ipv4.conf.default.secure_redirects", "0", "the same for links to come"},
	{"net.ipv4.conf.all.send_redirects", "0", "no host is told another route, pods included"},
	{"net.ipv4.conf.default.send_redirects", "0", "the same for links to come: for sending, one of the two is enough"},
	{"net.ipv4.conf.all.rp_filter", "0", "the larger one of this and a link's own counts: networkd lets uplinks take answers that left by another one of them"},
	{"net.ipv4.conf.default.rp_filter", "1", "what comes on pods' links with an address that is not theirs is dropped: a pod does not pass for a host. The same for uplinks until networkd has them"},
	{"net.ipv4.conf.all.log_martians", "1", "what rp_filter drops stands in the kernel's log, at a limited rate"},
	{"net.ipv4.conf.default.log_martians", "1", "the same for links to come"},
	{"net.ipv4.conf.all.arp_ignore", "1", "a link answers for its own addresses: hosts on it do not find the pods' gateway, or 192.0.0.8"},
	{"net.ipv4.conf.all.arp_announce", "2", "a link's ARP requests carry that link's own address"},
	{"net.ipv4.tcp_syncookies", "1", "a SYN flood does not fill the backlog"},
	{"net.ipv6.conf.all.accept_ra", "0", "addresses and routes come from networkd alone"},
	{"net.ipv6.conf.default.accept_ra", "0", "the same for links to come"},

	// Tables of the kernel that pods and daemons share. What one pod may have of them is
	// bounded by its cgroup's memory.
	{"fs.file-max", "9223372036854775807", "a pod that opens files without end must not leave daemons without"},
	{"fs.epoll.max_user_watches", "9223372036854775807", "as file-max: the count is of a user, and a pod may run as the user of a daemon"},
	// nf_conntrack_max depends on the memory: init/sysctl.go.
	{"net.netfilter.nf_conntrack_tcp_timeout_established", "86400", "idle connections are known for a day, as kube-proxy wants it, and not for five"},
	{"net.netfilter.nf_conntrack_tcp_timeout_close_wait", "3600", "half-closed connections are known for an hour, as kube-proxy wants it"},

	// What Kubernetes expects of a node.
	{"net.bridge.bridge-nf-call-iptables", "0", "pods are isolated ports of their bridge and reach each other through the machine, where the services' rules are; with 1, what these rules translate would stay in the bridge, which does not deliver it"},
	{"net.bridge.bridge-nf-call-ip6tables", "0", "as above"},
	{"vm.overcommit_memory", "1", "kubelet's protectKernelDefaults"},
	{"vm.panic_on_oom", "0", "kubelet's protectKernelDefaults: the cgroup decides who dies"},
	{"kernel.panic", "10", "kubelet's protectKernelDefaults: restart 10 s after a panic"},
	{"kernel.panic_on_oops", "1", "kubelet's protectKernelDefaults: a kernel that stumbled restarts"},
	{"kernel.keys.root_maxkeys", "1000000", "kubelet's protectKernelDefaults: one key per container"},
	{"kernel.keys.root_maxbytes", "25000000", "kubelet's protectKernelDefaults"},
	{"kernel.pid_max", "4194304", "pods are limited by their cgroup, not by a global count"},
	{"fs.inotify.max_user_instances", "8192", "all pods of one uid share this count"},
	{"fs.inotify.max_user_watches", "524288", "as instances"},
	{"vm.max_map_count", "262144", "what databases and search engines ask of a node"},
}
