// Package image makes a disk image from a staged root directory and a kernel:
//
//	root directory → SquashFS → verity tree appended         = ROOT-A
//	kernel + command line with the root hash + os-release    = UKI, signed
//	systemd-boot, signed + loader.conf + UKI                 = ESP
//	GPT: ESP, ROOT-A, ROOT-B, STATE, EPHEMERAL               = the image
//
// The chain of trust runs backwards through the same steps: firmware checks the
// signature, which covers the command line, which holds the root hash, against which
// every block of ROOT-A is checked as it is read. ROOT-A's partition UUID is derived
// from the root hash, so a kernel finds its own root and no other on whatever disk it
// was put.
//
// The same Inputs give the same bytes. Sizes are in buildkit/image.toml.
package image
