// Package vm runs a disk image of Dactyl in QEMU as its users run it: from an
// emulated USB stick or a disk of the machine, under UEFI. With KVM where a tiny guest
// has shown that it works, else with TCG.
//
// A Machine is watched through its serial line, steered through QMP and reached
// through forwarded ports. Its disk is a copy-on-write layer over the image that
// lives as long as the directory it is in, so a machine can be killed and started
// again on the same disk.
//
// Boot boots a machine for a test. Ready restores one, with a Ready node, from a snapshot of
// its memory and its disk, in seconds.
package vm
