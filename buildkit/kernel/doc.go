// Package kernel builds the kernel of Dactyl and says how it is to be run.
//
// The kernel is Linux 6.12 from Debian's linux-source-6.12, with all drivers
// built in, no loadable modules and no initramfs. Its configuration is upstream's
// defaults with two commented fragments over them:
//
//	base.config       what it can do
//	hardening.config  what it refuses
//
// Three tables go with it, each entry with its reason:
//
//	Hardening   command line parameters (cmdline.go)
//	Sysctls     settings that PID 1 applies before the first daemon (sysctl.go)
//	Exceptions  hardening advice that is not followed to the letter (exceptions.go)
//
// testdata/kspp.txt is the advice and testdata/required.txt what Kubernetes and
// the daemons need; the tests hold the resolved configuration against both, so a
// setting that Kconfig drops silently is found before anything is compiled.
// boot_test.go boots the result in QEMU.
//
// # Reproducible
//
// The same source, fragments and compiler give the same bytes. What is random in
// an ordinary build is derived here from the inputs: the layout of randomised
// structures (RANDSTRUCT) and the constants of the latent entropy plugin come
// from a hash of the source and the resolved configuration. So they are no
// secret for anyone who has the image, which is also true of every distribution's
// kernel; what they do is that an exploit written for another kernel's layout
// does not fit this one. Who wants a private layout adds a private line to a
// fragment, for instance CONFIG_LOCALVERSION.
//
// # Cache
//
// A finished kernel lies in <cache>/<key>/ (bzImage, config, System.map, version).
// The key is a hash of everything that goes in; old keys may be deleted at any
// time. A directory appears complete or not at all, and a lock keeps two builds
// from running at once.
//
// # Reading an oops
//
// KALLSYMS is off, so a trace shows addresses. Subtract the "Kernel Offset" that a
// panic prints and look them up in System.map of the same version; the build being
// reproducible, it can be made again for any released image.
//
// # What it does not do
//
// It does not sign, does not know the root hash, and does not support the
// 6.1 of Debian 12: half of the mitigations' names differ there. Processor
// microcode is left to the firmware: without an initramfs it would have to be
// linked in, and Debian carries it in non-free packages only.
//
// The kernel has NFS 4 and FUSE, but no loop device, iSCSI or NVMe over TCP: the
// block devices that these make would need the domain's device filter to allow
// disks. xtables is there for iptables programs that speak nftables; the legacy
// tables are not. There are no 32-bit programs, no swap, and no keyboard.
// A mounted partition cannot be opened for writing (bdev_allow_write_mounted=0):
// filesystems grow by ioctl, and a resize2fs in a pod works only unmounted.
package kernel
