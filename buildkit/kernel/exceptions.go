package kernel

// Kind says how hardening advice is met otherwise than by its own words.
type Kind int

const (
	// Deviates: the advice is not followed.
	Deviates Kind = iota + 1

	// Implied: what the advice restricts is not in this kernel at all, or
	// something at least as strict is set. Proof holds the settings that make it
	// so.
	Implied

	// Absent: Linux 6.12 has no such name, because the protection has become
	// unconditional or goes by another name. The test searches the source, so a
	// kernel that brings the name back makes the entry wrong.
	Absent
)

// Exception is one line of testdata/kspp.txt that the configuration, command line
// or sysctls do not meet word by word.
type Exception struct {
	Kind    Kind
	Setting string // where and what, as in kspp.txt: "config MODULE_SIG=y"
	Proof   string // settings of the configuration: "MODULES=n KEXEC=n"
	Reason  string
}

// Exceptions is held against the resolved configuration by kspp_test.go: a missing
// entry fails it, and so does one that is not needed any more.
var Exceptions = []Exception{
	// Kubernetes needs it.
	{Deviates, "config BPF_SYSCALL=n", "BPF_UNPRIV_DEFAULT_OFF=y BPF_JIT_ALWAYS_ON=y", "the device filter of cgroup v2 is a BPF program; root only, compiled with blinded constants, no interpreter"},
	{Deviates, "config USER_NS=n", "", "pods with hostUsers: false and the daemons' own walls are made of user namespaces"},
	{Deviates, "sysctl user.max_user_namespaces=0", "", "as USER_NS; daemons' seccomp filters refuse making more of them"},
	{Deviates, "sysctl kernel.yama.ptrace_scope=3", "SECURITY_YAMA=y", "2 is set: containerd starts the first process of a pod with hostUsers: false traced, so that it stops before its first instruction; no daemon has CAP_SYS_PTRACE, but containerd, kubelet and pods can have it, and trace what is in their PID namespace"},
	{Deviates, "config AIO=n", "IO_URING=n", "databases in pods; with io_uring gone it is their only asynchronous disk I/O"},

	// The machine needs it.
	{Deviates, "config VT=n", "FB=n INPUT_KEYBOARD=n HID_SUPPORT=n", "the pairing code is shown on a screen; there is no keyboard driver, so nothing is typed into it"},
	{Deviates, "config EFI_DISABLE_PCI_DMA=y", "", "hangs some boards at ExitBootServices; the image's choice NoEarlyDMA sets it on the command line"},
	{Deviates, "cmdline efi~disable_early_pci_dma", "", "as EFI_DISABLE_PCI_DMA"},
	{Deviates, "cmdline mitigations=auto,nosmt", "SCHED_CORE=y", "costs half of the processors of a machine that has two to four; the image's choice NoSMT sets it"},
	{Deviates, "cmdline nosmt", "SCHED_CORE=y", "as mitigations=auto,nosmt"},

	// One compiler at a time.
	{Deviates, "config CFI_CLANG=y", "X86_KERNEL_IBT=y RANDSTRUCT_FULL=y GCC_PLUGIN_STACKLEAK=y GCC_PLUGIN_LATENT_ENTROPY=y", "clang's; gcc's plugins bring stack erasing and latent entropy instead, and the processor's IBT checks indirect calls"},
	{Deviates, "cmdline cfi=kcfi", "X86_KERNEL_IBT=y", "as CFI_CLANG"},
	{Implied, "config UBSAN_LOCAL_BOUNDS=y", "UBSAN_BOUNDS_STRICT=y", "clang's complement to array bounds; gcc's bounds-strict checks local arrays itself"},

	// No policy, no policy engine.
	{Deviates, "config SECURITY_SELINUX=y", "SECURITY_LANDLOCK=y SECURITY_YAMA=y SECURITY_LOCKDOWN_LSM=y", "without a policy it allows everything; each daemon is confined by namespaces, seccomp and Landlock instead"},
	{Deviates, "config LSM~selinux", "", "as SECURITY_SELINUX"},
	{Deviates, "sysctl kernel.apparmor_restrict_unprivileged_unconfined=1", "SECURITY_APPARMOR=n", "there is no AppArmor; its profiles need a parser on the node"},
	{Implied, "config LSM_MMAP_MIN_ADDR=65536", "DEFAULT_MMAP_MIN_ADDR=65536", "SELinux's copy of this limit; the general one is set"},

	// No modules, nothing to sign.
	{Implied, "config STRICT_MODULE_RWX=y", "MODULES=n", "there are no modules"},
	{Implied, "config TRIM_UNUSED_KSYMS=y", "MODULES=n", "there are no modules, so no symbol is exported"},
	{Implied, "config MODULE_SIG=y", "MODULES=n", "there are no modules"},
	{Implied, "config MODULE_SIG_ALL=y", "MODULES=n", "there are no modules"},
	{Implied, "config MODULE_SIG_SHA512=y", "MODULES=n", "there are no modules"},
	{Implied, "config MODULE_SIG_FORCE=y", "MODULES=n", "there are no modules"},
	{Implied, "cmdline module.sig_enforce=1", "MODULES=n", "there are no modules"},
	{Implied, "sysctl kernel.modules_disabled=1", "MODULES=n", "there are no modules, and so no such file"},

	// What is not there needs no restriction.
	{Implied, "config ARCH_MMAP_RND_COMPAT_BITS=16", "COMPAT=n", "there are no 32-bit programs"},
	{Implied, "sysctl vm.mmap_rnd_compat_bits=16", "COMPAT=n", "there are no 32-bit programs, and so no such file"},
	{Implied, "cmdline vdso32=0", "COMPAT=n", "there are no 32-bit programs"},
	{Implied, "cmdline ia32_emulation=0", "IA32_EMULATION=n COMPAT=n", "there are no 32-bit programs"},
	{Implied, "cmdline vsyscall=none", "X86_VSYSCALL_EMULATION=n", "the vsyscall page is not built"},
	{Implied, "config STRICT_DEVMEM=y", "DEVMEM=n", "there is no /dev/mem"},
	{Implied, "config IO_STRICT_DEVMEM=y", "DEVMEM=n", "there is no /dev/mem"},
	{Implied, "config MITIGATION_VMSCAPE=y", "KVM=n", "there are no guests to leak from"},
	{Implied, "cmdline debugfs=off", "DEBUG_FS=n", "there is no debugfs"},
	{Implied, "sysctl kernel.kexec_load_disabled=1", "KEXEC=n KEXEC_FILE=n", "there is no kexec, and so no such file"},
	{Implied, "sysctl vm.unprivileged_userfaultfd=0", "USERFAULTFD=n", "there is no userfaultfd, and so no such file"},
	{Implied, "sysctl kernel.sysrq=0", "MAGIC_SYSRQ=n", "there is no SysRq, and so no such file"},
	{Implied, "sysctl kernel.io_uring_disabled=2", "IO_URING=n", "there is no io_uring, and so no such file"},

	// Names that Linux 6.12 does not have.
	{Absent, "config REFCOUNT_FULL=y", "", "reference counters saturate unconditionally since 5.5"},
	{Absent, "config MICROCODE_INTEL=y", "MICROCODE=y CPU_SUP_INTEL=y", "part of MICROCODE since 6.6"},
	{Absent, "config MICROCODE_AMD=y", "MICROCODE=y CPU_SUP_AMD=y", "part of MICROCODE since 6.6"},
	{Absent, "config X86_SMAP=y", "", "unconditional since 5.19"},
	{Absent, "config DEBUG_CREDENTIALS=y", "", "removed in 6.7: it had found nothing for years"},
	{Absent, "config HARDENED_USERCOPY_DEFAULT_ON=y", "HARDENED_USERCOPY=y", "came with 6.15; until then HARDENED_USERCOPY is on unless the command line says no"},
	{Absent, "config UBSAN_SANITIZE_ALL=y", "UBSAN=y", "unconditional with UBSAN since 6.9"},
	{Absent, "config KSTACK_ERASE=y", "GCC_PLUGIN_STACKLEAK=y", "the later name of GCC_PLUGIN_STACKLEAK"},
	{Absent, "config AMD_IOMMU_V2=y", "AMD_IOMMU=y IOMMU_SVA=y", "part of AMD_IOMMU since 6.7"},
	{Absent, "cmdline hash_pointers=always", "", "came with 6.17; until then pointers are hashed unless no_hash_pointers is said, which it is not"},
}
