package hostdeps

// Package is a Debian package and what needs it.
type Package struct{ Name, Reason string }

// Packages is all that a build and its tests run. To add one, add a line.
var Packages = []Package{
	// The image.
	{"zstd", "compresses the blocks of the root filesystem, and the kernel"},
	{"systemd-boot-efi", "the boot loader and the EFI stub of the UKI"},
	{"dosfstools", "mkfs.vfat makes the ESP; tests: fsck.vfat"},
	{"mtools", "puts files on the ESP without mounting it"},
	{"e2fsprogs", "mke2fs makes STATE and EPHEMERAL; tests: e2fsck, resize2fs"},

	// Judges of the image, in tests only.
	{"squashfs-tools", "tests: unsquashfs reads the root filesystem"},
	{"cryptsetup-bin", "tests: veritysetup checks the hash tree"},
	{"gdisk", "tests: sgdisk checks the partition table"},
	{"sbsigntool", "tests: sbverify checks the signatures"},
	{"dnsmasq-base", "tests: the DHCP server of networkd's"},
	{"iproute2", "tests: network namespaces"},
	{"openssl", "tests: checks certificates and TLS"},
	{"skopeo", "tests: writes the archives of images that podd loads"},
	{"podman", "tests: writes such archives, too"},
	{"docker-registry", "tests: the registry that images are pulled from"},
	{"tinyproxy", "tests: the proxy in front of it"},

	// The kernel, and programs with C in them.
	{"linux-source-6.12", "the kernel's source, with Debian's fixes"},
	{"build-essential", "compiler and make for the kernel and runc"},
	{"binutils", "linker for the kernel; tests: objdump reads the UKI"},
	{"flex", "kernel: Kconfig's scanner"},
	{"bison", "kernel: Kconfig's parser"},
	{"bc", "kernel: computes time constants"},
	{"libelf-dev", "kernel: objtool"},
	{"libssl-dev", "kernel: certificate tools"},
	{"gcc-12-plugin-dev", "kernel: RANDSTRUCT, LATENT_ENTROPY and STACKLEAK"},
	{"xz-utils", "kernel: unpacks the source"},
	{"cpio", "kernel: the empty initramfs that is linked in"},
	{"kmod", "kernel: its build asks for depmod"},
	{"rsync", "kernel: header installation"},
	{"libseccomp-dev", "runc: filters system calls"},

	// Taken into the image as they are.
	{"e2fsck-static", "e2fsck, which storaged runs on a file system with errors"},
	{"nftables", "nft, which kube-proxy and the CNI plugins run"},
	{"ca-certificates", "Mozilla's CA certificates, for registries"},

	// Virtual machines.
	{"qemu-system-x86", "boot tests and make run"},
	{"qemu-utils", "boot tests: qemu-img"},
	{"ovmf", "boot tests: UEFI firmware"},
}
