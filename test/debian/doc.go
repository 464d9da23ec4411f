// Package debian makes container images from Debian's packages and serves them from
// Debian's registry, so that scenarios run software that this project did not write.
//
// An image has the files of its packages, busybox for a shell, and an entry point that is
// a shell script, as the images that people pull from public registries have it. The
// packages come from the mirror that this machine's apt uses, and are kept in the user's
// cache.
package debian
