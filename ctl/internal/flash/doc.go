// Package flash writes a disk image to a disk and proves that it arrived.
//
// # What it refuses
//
// Check looks, without opening the device, for every reason not to write: no
// block device, a partition, read-only, the running system's disk, anything of
// it mounted, used as swap or held by another device (LVM, dm-crypt, md), sectors
// that the image's partition table does not count in, too little room. Opening
// it then is exclusive, so that the kernel refuses what Check could not see
// (another mount namespace, a second disk of a btrfs) and nobody can mount it
// while it is written. What is open must still be the disk that Check has seen, by
// its number, the kernel's sequence number of disks, size and model: a stick may have been
// changed for another while a person was asked. A plain file is treated as a disk of its
// size. On systems other than Linux every disk is refused.
//
// # What it writes
//
// First the place of the partition table, and of an old backup table at the
// disk's end, is cleared; then comes the image, and its first megabyte last. So
// a disk on which this was interrupted holds no table and boots nothing. Holes
// and zeros of the image are not copied: the device is told to make them
// (BLKZEROOUT), which guarantees that they read as zeros.
//
// Then the kernel's cache of the device is dropped and every byte is read back.
package flash
