// Package ext4 reads what storaged must know of an ext4 filesystem before it is
// mounted, and makes a new one by copying an empty one that mke2fs made when the
// image was built: no mkfs is on the machine.
package ext4
