// Package uki makes unified kernel images: one EFI program that holds a kernel, its
// command line and the system's os-release as sections, so that one signature covers
// all three. systemd's EFI stub, which runs first, hands the command line that is in
// the image to the kernel and, under Secure Boot, no other.
//
// https://uapi-group.org/specifications/specs/unified_kernel_image/
package uki
