// Package disk lays out the raw disk image: a GPT and, in its partitions, files made
// elsewhere or the empty filesystems that this package makes with mkfs.vfat, mtools
// and mke2fs.
//
// Nothing of the host gets into the bytes: no time, no random identifier, no
// configuration file. Blocks of zeros are left as holes, so an image takes the room
// of what is in it.
package disk
