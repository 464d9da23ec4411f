// Package squashfs writes the root filesystem: a SquashFS 4.0 image, compressed
// with zstd, whose bytes depend on the staged directory and on nothing else.
//
// It exists because mksquashfs compresses everything again for each image: for the
// 150 MB of Kubernetes that is most of a minute on two cores, after a change of one
// line in one daemon. Here every compressed block is kept in a cache under the hash
// of its content, so an image costs the blocks that changed.
//
// What it writes is a subset that the kernel and unsquashfs have read since 4.0:
// directories, regular files and symbolic links, all owned by root, no extended
// attributes, no export table. What it cannot say faithfully it refuses: devices,
// sockets, set-user-ID and set-group-ID files.
//
// Blocks are compressed by the zstd command, not by a Go package: the Go ones stop
// at about level 11, which costs a tenth of the image. The bytes are the same for
// the same version of zstd.
package squashfs
