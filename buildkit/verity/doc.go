// Package verity appends a dm-verity hash tree to a filesystem image, so that one
// partition holds the data and what proves it:
//
//	data | superblock, 4096 bytes | hash tree
//
// The kernel does not read the superblock; it is there so that veritysetup needs
// nothing but the root hash and the offset.
//
// The salt is the SHA-256 of the data: a salt has to differ between images, not to
// be secret, and the same data must give the same bytes.
package verity
