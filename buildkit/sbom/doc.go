// Package sbom writes what is in an image as an SPDX 2.3 document, for programs that
// compare it with lists of vulnerabilities and licences.
//
//	the image           CONTAINS     every file of the root filesystem, with its hashes
//	                    DEPENDS_ON   the kernel and the boot loader, which are beside it
//	a program           STATIC_LINK  every Go module in it, as the program itself says, and Go
//	                    STATIC_LINK  C libraries (runc)
//	a Debian package    CONTAINS     its files, which are unchanged
//
// Modules are told by purl. Their licences stand there as far as buildkit/licenses knows
// them. Equal images have equal documents: the only time in it is the image's, and its
// name is made of what it says.
package sbom
